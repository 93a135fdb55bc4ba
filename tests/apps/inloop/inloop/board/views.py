"""Each view uses one part of the deployment, so that a test can ask for it.

Nobody logs in here, and the POST views do without the CSRF token: this is a
test application, and `ingot verify` posts without a browser. What people log
in for is in solutions.py.
"""

import os
from pathlib import Path

from django import forms
from django.conf import settings
from django.contrib.sites.models import Site
from django.core.cache import cache
from django.db import Error as DatabaseError
from django.db import connection
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import (
    require_http_methods,
    require_POST,
    require_safe,
)
from huey.api import TaskWrapper
from huey.exceptions import ResultTimeout, TaskException
from redis.exceptions import RedisError

from inloop.board.models import Checkout, Entry, Job
from inloop.board.tasks import inspect_worker, judge_sample

HELLO = "Hello from INLOOP's protected directory.\n"
LATEST = 20
# gunicorn kills a worker that has not answered for 30 s.
MAX_WAIT_SECONDS = 25


class EntryForm(forms.ModelForm):
    class Meta:
        model = Entry
        fields = ["text"]


class WaitForm(forms.Form):
    wait = forms.FloatField(min_value=0, max_value=MAX_WAIT_SECONDS, required=False)


@never_cache
@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """The page for people: site, PostgreSQL, session in Redis, static files."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    return render(
        request,
        "board/index.html",
        {
            # Not get_current(): its cache outlives a later set_default_site.
            "site": Site.objects.get(pk=settings.SITE_ID),
            "count": Entry.objects.count(),
            "entries": Entry.objects.all()[:LATEST],
            "visits": request.session["visits"],
            "checkouts": Checkout.objects.all(),
        },
    )


@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
def entries(request: HttpRequest) -> JsonResponse:
    """List the latest entries, or add one from the form field `text`."""
    if request.method == "POST":
        form = EntryForm(request.POST)
        if not form.is_valid():
            return JsonResponse({"errors": form.errors}, status=400)
        entry = form.save()
        return JsonResponse(
            {"id": entry.pk, "count": Entry.objects.count()}, status=201
        )
    latest = Entry.objects.values("id", "text", "created")[:LATEST]
    return JsonResponse({"entries": list(latest)})


@csrf_exempt
@require_POST
def create_job(request: HttpRequest) -> JsonResponse:
    """Queue a job; with ?wait=SECONDS, wait for the consumer's answer."""
    return _queued(request, inspect_worker)


@csrf_exempt
@require_POST
def create_sample_job(request: HttpRequest) -> JsonResponse:
    """The same for a job that runs in a container."""
    return _queued(request, judge_sample)


def _queued(request: HttpRequest, task: TaskWrapper) -> JsonResponse:
    form = WaitForm(request.GET)
    if not form.is_valid():
        return JsonResponse({"errors": form.errors}, status=400)
    job = Job.objects.create()
    queued = task(str(job.pk))
    wait = form.cleaned_data["wait"]
    if wait is None:
        return JsonResponse({"id": job.pk}, status=202)
    try:
        result = queued.get(blocking=True, timeout=wait)
    except ResultTimeout:
        return JsonResponse({"id": job.pk, "state": "waiting"}, status=504)
    except TaskException as error:
        said = {"id": job.pk, "state": "failed", "error": str(error)}
        return JsonResponse(said, status=500)
    return JsonResponse({"id": job.pk, "state": "done", "result": result})


@require_safe
def show_job(request: HttpRequest, job_id: str) -> JsonResponse:
    """What PostgreSQL knows of a job, long after Redis forgot it."""
    job = get_object_or_404(Job, pk=job_id)
    return JsonResponse(
        {
            "id": job.pk,
            "state": job.state,
            "result": job.result,
            "created": job.created,
            "finished": job.finished,
        }
    )


@require_safe
def protected(request: HttpRequest, name: str) -> HttpResponse | FileResponse:
    """A file that nginx sends, but only when told to by X-Accel-Redirect."""
    path = settings.MEDIA_ROOT / "solutions" / f"{name}.txt"
    if name == "hello" and not path.exists():
        _create(path, HELLO)
    if not path.is_file():
        raise Http404
    return sent(path)


@never_cache
@require_safe
def health(request: HttpRequest) -> JsonResponse:
    """Whether both servers answer."""
    parts = {"database": _database_answers(), "cache": _cache_answers()}
    return JsonResponse(parts, status=200 if all(parts.values()) else 503)


@require_safe
def whoami(request: HttpRequest) -> JsonResponse:
    """How Django sees the request after nginx and gunicorn had it."""
    return JsonResponse(
        {
            "host": request.get_host(),
            "scheme": request.scheme,
            "port": request.get_port(),
            "forwarded_proto": request.headers.get("X-Forwarded-Proto"),
        }
    )


def sent(path: Path) -> HttpResponse | FileResponse:
    """A file below MEDIA_ROOT, by nginx where there is one."""
    if not settings.PROXY_ENABLED:
        return FileResponse(path.open("rb"))
    location = f"{settings.X_ACCEL_LOCATION}{path.relative_to(settings.MEDIA_ROOT)}"
    return HttpResponse(
        content_type="text/plain; charset=utf-8",
        headers={"X-Accel-Redirect": location},
    )


def _create(path: Path, text: str) -> None:
    """Write a file of mode 0640 whole, as another worker may do the same.

    The directory is the deployment's to make: its owner and mode decide
    whether nginx can read what is put here.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.chmod(0o640)  # whatever the unit's UMask= is
    draft.replace(path)


def _database_answers() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return False
    return True


def _cache_answers() -> bool:
    try:
        cache.set("health", "ok", timeout=10)
        return cache.get("health") == "ok"
    except RedisError:
        return False
