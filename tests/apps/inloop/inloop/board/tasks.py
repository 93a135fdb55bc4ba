"""Jobs that the huey consumer (`manage.py run_huey`) runs.

One that fails is logged, and what is logged as an error is mailed to ADMINS.
"""

import grp
import os
import pwd

from django.utils import timezone
from huey.contrib.djhuey import db_task

from inloop.board import git, sandbox
from inloop.board.models import Checkout, Entry, Job, Solution

# The task: print the sum of the two arguments.
CASES = [(20, 22), (-7, 7), (123456, 654321)]
SAMPLE = b'echo "$(($1 + $2))"\n'


@db_task()
def inspect_worker(job_id: str) -> dict[str, object]:
    """Tell who the worker is, so that a test sees its unit's user and groups."""
    result = {
        "user": pwd.getpwuid(os.geteuid()).pw_name,
        "groups": sorted(_group_name(gid) for gid in os.getgroups()),
        "pid": os.getpid(),
        "entries": Entry.objects.count(),
    }
    return _finish(job_id, result)


@db_task()
def judge_sample(job_id: str) -> dict[str, object]:
    """Judge the solution that is right, so that a test sees containers work."""
    return _finish(job_id, _verdict(SAMPLE, CASES[:1]))


@db_task()
def judge(solution_id: str) -> None:
    """Run what somebody uploaded on every case, and keep the verdict."""
    solution = Solution.objects.get(pk=solution_id)
    with solution.file.open("rb") as file:
        verdict = _verdict(file.read(), CASES)
    Solution.objects.filter(pk=solution_id).update(
        verdict=verdict, finished=timezone.now()
    )


@db_task()
def fetch_repository(name: str, url: str) -> None:
    """Fetch a repository that GitHub says was pushed to."""
    commit = git.fetch(name, url)
    Checkout.objects.update_or_create(name=name, defaults={"commit": commit})


def _verdict(solution: bytes, cases: list[tuple[int, int]]) -> dict[str, object]:
    for x, y in cases:
        outcome = sandbox.run(solution, [str(x), str(y)])
        right = outcome.output.strip() == str(x + y) and outcome.status == 0
        if not right or outcome.ended:
            return {
                "passed": False,
                "case": f"{x} + {y}",
                "output": outcome.output[:500],
                "status": outcome.status,
                "ended": outcome.ended,
            }
    return {"passed": True, "cases": len(cases)}


def _finish(job_id: str, result: dict[str, object]) -> dict[str, object]:
    Job.objects.filter(pk=job_id).update(result=result, finished=timezone.now())
    return result


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
