"""The interface that pwclient uses: /xmlrpc/. Who changes something says who he is (HTTP basic authentication)."""
import base64
import logging
from xmlrpc.client import Fault, dumps, loads

from django.contrib.auth import authenticate
from django.core.exceptions import ObjectDoesNotExist
from django.http import HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from patchwork.models import Patch, Project, State

log = logging.getLogger(__name__)
VERSION = [1, 3, 0]
methods = {}


def method(function):
    methods[function.__name__] = function
    return function


def shown(patch):
    return {
        "id": patch.pk,
        "date": str(patch.date),
        "msgid": patch.msgid,
        "name": patch.name,
        "project": patch.project.name,
        "state": patch.state.name,
        "state_id": patch.state_id,
        "submitter": str(patch.submitter),
        "hash": patch.hash,
        "commit_ref": patch.commit_ref,
    }


@method
def pw_rpc_version(_user):
    return VERSION


@method
def project_list(_user, search="", max_count=0):
    found = Project.objects.filter(linkname__icontains=search)
    return [{"id": p.pk, "linkname": p.linkname, "name": p.name} for p in (found[:max_count] if max_count else found)]


@method
def state_list(_user, search="", max_count=0):
    found = State.objects.filter(name__icontains=search)
    return [{"id": s.pk, "name": s.name} for s in (found[:max_count] if max_count else found)]


@method
def patch_list(_user, filters=None):
    fields = {"id": "pk", "project_id": "project", "state_id": "state", "submitter_id": "submitter", "hash": "hash", "msgid": "msgid"}
    found = Patch.objects.filter(**{fields[key]: value for key, value in (filters or {}).items()})
    return [shown(patch) for patch in found]


@method
def patch_get(_user, patch_id):
    return shown(Patch.objects.get(pk=patch_id))


@method
def patch_get_by_hash(_user, patch_hash):
    """Of patches that were sent twice, the last."""
    patch = Patch.objects.filter(hash=patch_hash).last()
    return shown(patch) if patch else {}


@method
def patch_set(user, patch_id, params):
    patch = Patch.objects.get(pk=patch_id)
    if not patch.is_editable(user):
        raise PermissionError(f"no permission to edit patch {patch_id}")
    if "state" in params:
        patch.state = State.objects.get(pk=params["state"])
    if "commit_ref" in params:
        patch.commit_ref = params["commit_ref"]
    patch.save()
    return True


def user_of(request):
    scheme, _, encoded = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "basic":
        return request.user
    name, _, password = base64.b64decode(encoded).decode().partition(":")
    user = authenticate(request, username=name, password=password)
    if user is None:
        raise PermissionError("wrong name or password")
    return user


@csrf_exempt
@require_POST
def xmlrpc(request):
    try:
        params, name = loads(request.body)
        if name not in methods:
            raise LookupError(f"no method {name}")
        answer = dumps((methods[name](user_of(request), *params),), methodresponse=True, allow_none=True)
    except (LookupError, PermissionError, ObjectDoesNotExist, TypeError, ValueError) as error:
        log.warning("xmlrpc: %s", error)
        answer = dumps(Fault(1, str(error)), methodresponse=True)
    return HttpResponse(answer, content_type="text/xml")
