"""Addresses of the board; views.py says what each one shows to work."""

from django.urls import path, re_path

from inloop.board import views

urlpatterns = [
    path("", views.index, name="index"),
    path("entries/", views.entries, name="entries"),
    path("jobs/", views.create_job, name="jobs"),
    path("jobs/<uuid:job_id>/", views.show_job, name="job"),
    # Plain names only, so that no request can leave the directory.
    re_path(
        r"^protected/(?P<name>[A-Za-z0-9_-]+)\.txt$",
        views.protected,
        name="protected",
    ),
    path("health/", views.health, name="health"),
    path("whoami/", views.whoami, name="whoami"),
]
