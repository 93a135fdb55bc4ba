"""Error reports in the browser, for those whose address is in INTERNAL_IPS."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.debug import technical_500_response


class InternalReports:
    """Shows Django's own report in place of the page for everybody else."""

    def __init__(self, answer: Callable[[HttpRequest], HttpResponse]) -> None:
        self.answer = answer

    def __call__(self, request: HttpRequest) -> HttpResponse:
        # nginx's own connection comes from this host, whoever is behind it.
        asked_by = request.headers.get("X-Forwarded-For")
        if settings.PROXY_ENABLED and asked_by:
            request.META["REMOTE_ADDR"] = asked_by
        return self.answer(request)

    def process_exception(
        self, request: HttpRequest, error: Exception
    ) -> HttpResponse | None:
        if request.META.get("REMOTE_ADDR") not in settings.INTERNAL_IPS:
            return None
        return technical_500_response(request, type(error), error, error.__traceback__)
