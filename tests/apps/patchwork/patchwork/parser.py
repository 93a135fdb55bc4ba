"""From a mail to a patch."""
import email
import email.policy
import email.utils
import logging
import re
from datetime import timezone as zones

from django.db import transaction
from django.utils import timezone

from patchwork.models import Patch, Person, Project, State

log = logging.getLogger(__name__)


def find_project(mail):
    """By the list's own header, else by whom the mail is to."""
    for header in ("List-Id", "List-ID", "X-Mailing-List", "X-list"):
        found = re.search(r"<?([^\s<>]+)>?\s*$", str(mail.get(header, "")))
        project = found and Project.objects.filter(listid__iexact=found.group(1)).first()
        if project:
            return project
    receivers = email.utils.getaddresses([str(mail.get(h, "")) for h in ("To", "Cc")])
    for _, address in receivers:
        project = Project.objects.filter(listemail__iexact=address).first()
        if project:
            return project
    return None


def text_of(mail):
    """All of its plain text, in whatever characters it was written; attached patches too."""
    texts = []
    for part in mail.walk():
        if part.get_content_maintype() != "text" or part.get_content_subtype() not in ("plain", "x-patch", "x-diff"):
            continue
        payload = part.get_payload(decode=True) or b""
        for charset in (part.get_content_charset() or "us-ascii", "utf-8", "iso-8859-1"):
            try:
                texts.append(payload.decode(charset))
                break
            except (LookupError, UnicodeDecodeError):
                continue
    return "\n".join(texts).replace("\r\n", "\n")


def split(text):
    """What is said, and the diff; the diff is None in a mail without one."""
    begin = re.search(r"^(diff --git .*|Index: .*|--- \S+.*\n\+\+\+ \S+.*)$", text, re.MULTILINE)
    if not begin or not re.search(r"^@@ -\d+(,\d+)? \+\d+(,\d+)? @@", text[begin.start() :], re.MULTILINE):
        return text, None
    diff = re.sub(r"\n-- ?\n.*\Z", "\n", text[begin.start() :], flags=re.DOTALL)
    return text[: begin.start()].strip(), diff


def name_of(subject):
    """The subject without the list's tags: `[PATCH v2 1/3]`."""
    return re.sub(r"^(\s*(re:|\[[^\]]*\]))+\s*", "", re.sub(r"\s+", " ", subject), flags=re.IGNORECASE).strip()[:255] or "Untitled"


def date_of(mail):
    try:
        date = email.utils.parsedate_to_datetime(str(mail.get("Date")))
    except (TypeError, ValueError):
        return timezone.now()
    return date if date.tzinfo else date.replace(tzinfo=zones.utc)


def parse_mail(raw):
    """The patch of a mail, or None for one that has none. A mail that comes twice is one patch."""
    mail = email.message_from_bytes(raw, policy=email.policy.default)
    msgid = str(mail.get("Message-Id", "")).strip()[:255]
    project = find_project(mail)
    if project is None or not msgid:
        log.warning("no project for the mail %s", msgid)
        return None
    content, diff = split(text_of(mail))
    if diff is None:
        log.info("no patch in the mail %s", msgid)
        return None
    name, address = email.utils.parseaddr(str(mail.get("From", "")))
    with transaction.atomic():
        submitter, _ = Person.objects.get_or_create(email=address[:255], defaults={"name": name[:255]})
        patch, made = Patch.objects.get_or_create(
            project=project,
            msgid=msgid,
            defaults={
                "name": name_of(str(mail.get("Subject", ""))),
                "date": date_of(mail),
                "submitter": submitter,
                "state": State.objects.order_by("ordering")[0],
                "headers": "\n".join(f"{key}: {value}" for key, value in mail.items()),
                "content": content,
                "diff": diff,
            },
        )
    log.info("%s patch %s of %s: %s", "new" if made else "known", patch.pk, project.linkname, patch.name)
    return patch
