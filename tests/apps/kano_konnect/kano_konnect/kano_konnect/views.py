import os
import pwd

from django.http import JsonResponse
from django.views.decorators.http import require_GET, require_POST

import kano_konnect
from kano_konnect.models import Sum
from kano_konnect.tasks import add


@require_GET
def home(_request):
    user = pwd.getpwuid(os.geteuid()).pw_name
    return JsonResponse({"release": kano_konnect.RELEASE, "sums": Sum.objects.count(), "user": user, "pid": os.getpid()})


@require_POST
def sums(request):
    x, y = int(request.POST["x"]), int(request.POST["y"])
    answer = add.delay(x, y).get(timeout=20)
    Sum.objects.create(x=x, y=y, result=answer["sum"])
    return JsonResponse(answer)
