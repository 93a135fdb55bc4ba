from django.apps import AppConfig


class PatchworkConfig(AppConfig):
    name = "patchwork"

    def ready(self):
        from patchwork import signals  # noqa: F401
