"""Sends every request to the board, the only app with views."""

from django.urls import include, path

urlpatterns = [path("", include("inloop.board.urls"))]
