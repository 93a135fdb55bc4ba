from django.db import models


class Sum(models.Model):
    x = models.IntegerField()
    y = models.IntegerField()
    result = models.IntegerField()
