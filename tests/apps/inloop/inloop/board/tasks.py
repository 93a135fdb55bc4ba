"""Jobs that the huey consumer (`manage.py run_huey`) runs."""

import grp
import os
import pwd

from django.utils import timezone
from huey.contrib.djhuey import db_task

from inloop.board.models import Entry, Job


@db_task()
def inspect_worker(job_id: str) -> dict[str, object]:
    """Tell who the worker is, so that a test sees its unit's user and groups."""
    result = {
        "user": pwd.getpwuid(os.geteuid()).pw_name,
        "groups": sorted(_group_name(gid) for gid in os.getgroups()),
        "pid": os.getpid(),
        "entries": Entry.objects.count(),
    }
    Job.objects.filter(pk=job_id).update(result=result, finished=timezone.now())
    return result


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
