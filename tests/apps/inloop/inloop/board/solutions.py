"""What people log in for: they upload a solution, and see what became of it."""

from pathlib import Path

from django import forms
from django.contrib.auth.decorators import login_required, user_passes_test
from django.core.files.uploadedfile import UploadedFile
from django.http import FileResponse, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from inloop.board.models import Solution
from inloop.board.tasks import judge
from inloop.board.views import sent

MAX_BYTES = 64 * 1024


class SolutionForm(forms.Form):
    file = forms.FileField(allow_empty_file=False)

    def clean_file(self) -> UploadedFile:
        file = self.cleaned_data["file"]
        if file.size > MAX_BYTES:
            raise forms.ValidationError(f"larger than {MAX_BYTES} bytes")
        return file


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def solutions(request: HttpRequest) -> HttpResponse:
    """One's own solutions, and the form for another."""
    form = SolutionForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        solution = Solution.objects.create(
            author=request.user, file=form.cleaned_data["file"]
        )
        judge(str(solution.pk))
        return redirect("solution", solution.pk)
    return render(
        request,
        "board/solutions.html",
        {"form": form, "solutions": Solution.objects.filter(author=request.user)},
        status=400 if form.errors else 200,
    )


@never_cache
@login_required
@require_safe
def solution(request: HttpRequest, solution_id: str) -> HttpResponse:
    """What became of one of them."""
    found = get_object_or_404(Solution, pk=solution_id, author=request.user)
    return render(request, "board/solution.html", {"solution": found})


@login_required
@require_safe
def download(request: HttpRequest, solution_id: str) -> HttpResponse | FileResponse:
    """The file itself, for its author alone."""
    found = get_object_or_404(Solution, pk=solution_id, author=request.user)
    return sent(Path(found.file.path))


@user_passes_test(lambda user: user.is_superuser)
@require_safe
def broken(request: HttpRequest) -> HttpResponse:
    """A server error, by which an administrator sees that reports arrive."""
    raise RuntimeError("this page is broken on purpose")
