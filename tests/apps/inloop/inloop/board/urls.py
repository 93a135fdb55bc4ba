"""Addresses of the board; views.py and solutions.py say what each one shows to work."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path, re_path

from inloop.board import github, solutions, views

urlpatterns = [
    path("", views.index, name="index"),
    path("entries/", views.entries, name="entries"),
    path("jobs/", views.create_job, name="jobs"),
    path("jobs/sample/", views.create_sample_job, name="sample"),
    path("jobs/<uuid:job_id>/", views.show_job, name="job"),
    # Plain names only, so that no request can leave the directory.
    re_path(
        r"^protected/(?P<name>[A-Za-z0-9_-]+)\.txt$",
        views.protected,
        name="protected",
    ),
    path("login/", LoginView.as_view(template_name="board/login.html"), name="login"),
    path("logout/", LogoutView.as_view(next_page="index"), name="logout"),
    path("solutions/", solutions.solutions, name="solutions"),
    path("solutions/<uuid:solution_id>/", solutions.solution, name="solution"),
    path("solutions/<uuid:solution_id>/file/", solutions.download, name="download"),
    path("github/webhook/", github.webhook, name="webhook"),
    path("broken/", solutions.broken, name="broken"),
    path("health/", views.health, name="health"),
    path("whoami/", views.whoami, name="whoami"),
]
