from celery import Celery

app = Celery("kano_konnect")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["kano_konnect"])
