"""GitHub's webhook: what is signed with GITHUB_SECRET makes the consumer fetch.

https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries
"""

import hashlib
import hmac
import json

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from inloop.board import git
from inloop.board.tasks import fetch_repository


@csrf_exempt
@require_POST
def webhook(request: HttpRequest) -> JsonResponse:
    """Queue a fetch for a signed push; anybody else is refused."""
    if not _signed(request):
        return JsonResponse({"error": "not signed with our secret"}, status=403)
    event = request.headers.get("X-GitHub-Event")
    if event != "push":
        return JsonResponse({"event": event, "fetches": False})
    try:
        repository = json.loads(request.body)["repository"]
        name, url = repository["full_name"], repository["ssh_url"]
        if not (git.NAME.fullmatch(name) and git.URL.fullmatch(url)):
            raise ValueError("no repository has such a name or address")
    except (KeyError, TypeError, ValueError) as error:
        return JsonResponse({"error": f"no push: {error}"}, status=400)
    fetch_repository(name, url)
    return JsonResponse({"event": event, "fetches": True}, status=202)


def _signed(request: HttpRequest) -> bool:
    digest = hmac.new(settings.GITHUB_SECRET.encode(), request.body, hashlib.sha256)
    given = request.headers.get("X-Hub-Signature-256", "")
    return hmac.compare_digest(f"sha256={digest.hexdigest()}".encode(), given.encode())
