from django.conf import settings
from django.contrib import admin
from django.urls import include, path

from patchwork import views, xmlrpc

urlpatterns = [
    path("", views.projects, name="projects"),
    path("admin/", admin.site.urls),
    path("project/<slug:linkname>/list/", views.patches, name="patch-list"),
    path("project/<slug:linkname>/pwclientrc/", views.pwclientrc, name="pwclientrc"),
    path("patch/<int:patch_id>/", views.patch, name="patch-detail"),
    path("patch/<int:patch_id>/mbox/", views.mbox, name="patch-mbox"),
    path("register/", views.register, name="register"),
    path("confirm/<slug:key>/", views.confirm, name="confirm"),
    # Login, logout, and the password's reset by mail.
    path("user/", include("django.contrib.auth.urls")),
]
if settings.ENABLE_XMLRPC:
    urlpatterns.append(path("xmlrpc/", xmlrpc.xmlrpc, name="xmlrpc"))
