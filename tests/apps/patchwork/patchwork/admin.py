from django.contrib import admin

from patchwork.models import Patch, Person, Project, State, Tag, UserProfile

for model in (Person, State, Tag, UserProfile):
    admin.site.register(model)


@admin.register(Project)
class ProjectAdmin(admin.ModelAdmin):
    list_display = ["name", "linkname", "listid", "listemail"]


@admin.register(Patch)
class PatchAdmin(admin.ModelAdmin):
    list_display = ["name", "submitter", "project", "state", "date"]
    list_filter = ["project", "state"]
