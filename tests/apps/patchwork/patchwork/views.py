from django import forms
from django.contrib.auth.models import User
from django.contrib.sites.models import Site
from django.core.exceptions import PermissionDenied
from django.core.mail import send_mail
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.views.decorators.http import require_http_methods, require_safe

from patchwork.models import EmailConfirmation, Patch, Project, State


@require_safe
def projects(request):
    return render(request, "patchwork/projects.html", {"projects": Project.objects.all(), "site": Site.objects.get_current()})


@require_safe
def patches(request, linkname):
    project = get_object_or_404(Project, linkname=linkname)
    found = Patch.objects.filter(project=project).select_related("submitter", "state")
    return render(request, "patchwork/list.html", {"project": project, "patches": found})


@require_safe
def pwclientrc(request, linkname):
    """A sample for `~/.pwclientrc`."""
    project = get_object_or_404(Project, linkname=linkname)
    context = {"project": project, "site": Site.objects.get_current(), "scheme": request.scheme}
    return render(request, "patchwork/pwclientrc", context, content_type="text/plain")


class StateForm(forms.ModelForm):
    class Meta:
        model = Patch
        fields = ["state"]


@require_http_methods(["GET", "HEAD", "POST"])
def patch(request, patch_id):
    found = get_object_or_404(Patch, pk=patch_id)
    editable = found.is_editable(request.user)
    if request.method == "POST":
        if not editable:
            raise PermissionDenied
        form = StateForm(request.POST, instance=found)
        if form.is_valid():
            form.save()
            return redirect(found)
    return render(request, "patchwork/patch.html", {"patch": found, "editable": editable, "states": State.objects.all()})


@require_safe
def mbox(_request, patch_id):
    found = get_object_or_404(Patch, pk=patch_id)
    return HttpResponse(f"{found.headers}\n\n{found.content}\n---\n{found.diff}", content_type="text/plain; charset=utf-8")


class RegistrationForm(forms.Form):
    username = forms.RegexField(r"^\w+$", max_length=30)
    email = forms.EmailField(max_length=200)
    password = forms.CharField(widget=forms.PasswordInput)

    def clean_username(self):
        name = self.cleaned_data["username"]
        if User.objects.filter(username__iexact=name).exists():
            raise forms.ValidationError("This username is already taken.")
        return name


@require_http_methods(["GET", "HEAD", "POST"])
def register(request):
    form = RegistrationForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        user = User.objects.create_user(data["username"], data["email"], data["password"], is_active=False)
        confirmation = EmailConfirmation.objects.create(user=user, email=user.email)
        body = render_to_string("patchwork/activation.txt", {"site": Site.objects.get_current(), "confirmation": confirmation})
        send_mail("Patchwork account confirmation", body, None, [user.email])
        return render(request, "patchwork/message.html", {"message": "A mail is on its way to you."})
    return render(request, "patchwork/form.html", {"form": form, "title": "Register"})


@require_safe
def confirm(request, key):
    confirmation = get_object_or_404(EmailConfirmation, key=key)
    if not confirmation.is_valid():
        return render(request, "patchwork/message.html", {"message": "This confirmation has expired."}, status=410)
    confirmation.user.is_active = True
    confirmation.user.save()
    confirmation.delete()
    return render(request, "patchwork/message.html", {"message": "Your account is active."})
