from django.apps import AppConfig


class BoardConfig(AppConfig):
    name = "inloop.board"
