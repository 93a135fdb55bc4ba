from django.urls import path

from kano_konnect import views

urlpatterns = [path("", views.home), path("sums", views.sums)]
