"""moto's server, with what its model of AMIs leaves out: a program for tests/moto.ts and tests/ec2/ec2.ts, run by moto's own Python.

moto's own AMI has one snapshot of its own making and neither tags, architecture nor block devices from RegisterImage; CopyImage forgets
tags, encryption and the client token, CreateSnapshot the volume's key; EnableImageDeprecation and DescribeVolumeStatus are not there; every
instance has the same console; AssumeRole takes any role; a policy's statement with a condition denies, whatever it says.
Here these are as the Amazon EC2 API Reference and the AWS STS API Reference have them; everything else is moto's. Calls are answered one at a
time: moto's backends are plain dictionaries, and one call that looks through them while another writes ends in a page of HTML.

INGOT_ROLES: in S3 keys of roles are held to their signatures and their roles' policies (without it nobody is).
INGOT_CONSOLES: a folder with <instance id>/console.log, or one console.log for all; without it GetConsoleOutput has moto's canned text.
"""
import os
import re
import sys
import threading
import urllib.parse
from datetime import datetime, timezone

import moto.server
from moto import settings
from moto.core.authorization import ActionAuthenticatorMixin
from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.amis import Ami
from moto.ec2.models.elastic_block_store import EBSBackend
from moto.ec2.responses.amis import AmisResponse
from moto.ec2.responses.elastic_block_store import ElasticBlockStore
from moto.ec2.responses.general import General
from moto.iam.access_control import IAMPolicyStatement, IAMRequestBase, PermissionResult, S3IAMRequest
from moto.kms.models import KmsBackend
from moto.sts.models import AssumedRole
from moto.sts.responses import TokenResponse

if not hasattr(General, "get_console_output"):
    sys.exit("moto is not as this was written for")


def tags_of(response, kind):
    specifications = response._get_param("TagSpecifications", [])
    return {t["Key"]: t["Value"] for s in specifications if s["ResourceType"] == kind for t in s.get("Tags", [])}


def disks(ami):
    """Its own one, until it is told of others."""
    return ami.__dict__.get("ingot_disks") or [{"DeviceName": ami.root_device_name, "snapshot": ami.ebs_snapshot}]


def mappings(ami):
    return [
        {
            "DeviceName": d["DeviceName"],
            "Ebs": {
                "SnapshotId": d["snapshot"].id,
                "VolumeSize": d["snapshot"].volume.size,
                "DeleteOnTermination": True,
                "VolumeType": d.get("type", "gp3"),
                "Encrypted": bool(d["snapshot"].encrypted),
            },
        }
        for d in disks(ami)
    ]


Ami.block_device_mappings = property(mappings)


def users_of(backend, snapshot):
    return [a.id for a in backend.amis.values() if any(d["snapshot"].id == snapshot for d in disks(a))]


delete_snapshot = EBSBackend.delete_snapshot


def delete_unused(self, snapshot_id):
    users = users_of(self, snapshot_id)
    if users:
        raise EC2ClientError("InvalidSnapshot.InUse", f"The snapshot {snapshot_id} is currently in use by {users[0]}")
    snapshot = self.snapshots.get(snapshot_id)
    if snapshot:
        snapshot.from_ami = None
    return delete_snapshot(self, snapshot_id)


EBSBackend.delete_snapshot = delete_unused


create_snapshot = EBSBackend.create_snapshot


def create_snapshot_with_key(self, volume_id, *args, **kwargs):
    snapshot = create_snapshot(self, volume_id, *args, **kwargs)
    if snapshot.encrypted:
        snapshot.kms_key_id = getattr(snapshot.volume, "kms_key_id", None) or self._create_default_encryption_key()
    return snapshot


EBSBackend.create_snapshot = create_snapshot_with_key


def unique(backend, name):
    for ami in backend.amis.values():
        if ami.name == name and ami.owner_id == backend.account_id:
            raise EC2ClientError("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {ami.id}")


def drop_own(backend, ami):
    backend.snapshots.pop(ami.ebs_snapshot.id, None)


def register_image(self):
    self.error_on_dryrun()
    backend, name = self.ec2_backend, self._get_param("Name")
    unique(backend, name)
    given = [m for m in self._get_param("BlockDeviceMappings", []) if m.get("Ebs", {}).get("SnapshotId")]
    found = [{"DeviceName": m["DeviceName"], "snapshot": backend.get_snapshot(m["Ebs"]["SnapshotId"])} for m in given]
    ami = backend.register_image(name, self._get_param("Description", ""))
    ami.architecture = self._get_param("Architecture") or "i386"
    ami.virtualization_type = self._get_param("VirtualizationType") or "paravirtual"
    ami.root_device_name = self._get_param("RootDeviceName") or ami.root_device_name
    ami.root_device_type = "ebs"
    ami.ena_support = bool(self._get_param("EnaSupport"))
    ami.imds_support = self._get_param("ImdsSupport")
    ami.boot_mode = self._get_param("BootMode")
    ami.add_tags(tags_of(self, "image"))
    if found:
        ami.ingot_disks = found
        drop_own(backend, ami)
    return ActionResult({"ImageId": ami.id})


def copy_image(self):
    from moto.ec2.models import ec2_backends

    self.error_on_dryrun()
    backend, name, token = self.ec2_backend, self._get_param("Name"), self._get_param("ClientToken")
    known = backend.__dict__.setdefault("ingot_copies", {})
    if token and known.get(token) in backend.amis:
        return ActionResult({"ImageId": known[token]})
    unique(backend, name)
    wanted, region = self._get_param("SourceImageId"), self._get_param("SourceRegion")
    # Another account's may be copied where it is shared.
    for account in ec2_backends:
        source = ec2_backends[account][region].amis.get(wanted)
        if source:
            break
    else:
        raise EC2ClientError("InvalidAMIID.NotFound", f"The image id '[{wanted}]' does not exist")
    shared = [p.get("UserId") for p in source.launch_permissions]
    granted = all(backend.account_id in d["snapshot"].create_volume_permission_userids for d in disks(source))
    if source.owner_id != backend.account_id and not (backend.account_id in shared and granted):
        raise EC2ClientError("InvalidRequest", "You do not have permission to access the storage of this ami")
    ami = backend.register_image(name, self._get_param("Description", ""))
    for attribute in ("architecture", "virtualization_type", "root_device_name", "root_device_type", "boot_mode"):
        setattr(ami, attribute, getattr(source, attribute))
    if self._get_param("CopyImageTags") and source.owner_id == backend.account_id:
        ami.add_tags({t["key"]: t["value"] for t in source.get_tags() if not t["key"].startswith("aws:")})
    ami.add_tags(tags_of(self, "image"))
    encrypted = bool(self._get_param("Encrypted"))
    key = self._get_param("KmsKeyId") or (backend._create_default_encryption_key() if encrypted else None)
    found = []
    for disk in disks(source):
        volume = backend.create_volume(size=disk["snapshot"].volume.size, zone_name=f"{self.region}a")
        snapshot = backend.create_snapshot(volume.id, f"Copied for {ami.id} from {wanted}", backend.account_id)
        snapshot.encrypted = encrypted or disk["snapshot"].encrypted
        snapshot.kms_key_id = key or (backend._create_default_encryption_key() if snapshot.encrypted else None)
        snapshot.add_tags(tags_of(self, "snapshot"))
        backend.delete_volume(volume.id)
        found.append({"DeviceName": disk["DeviceName"], "snapshot": snapshot})
    ami.ingot_disks = found
    drop_own(backend, ami)
    known[token] = ami.id
    return ActionResult({"ImageId": ami.id})


def enable_image_deprecation(self):
    self.error_on_dryrun()
    [ami] = self.ec2_backend.describe_images(ami_ids=[self._get_param("ImageId")])
    at = self._get_param("DeprecateAt")
    moment = at if isinstance(at, datetime) else datetime.fromisoformat(str(at).replace("Z", "+00:00"))
    moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    if moment < datetime.now(timezone.utc):
        raise EC2ClientError("InvalidParameterValue", "DeprecateAt must be in the future")
    ami.deprecation_time = moment.strftime("%Y-%m-%dT%H:%M:00.000Z")
    return ActionResult({"Return": True})


def disable_image_deprecation(self):
    self.error_on_dryrun()
    [ami] = self.ec2_backend.describe_images(ami_ids=[self._get_param("ImageId")])
    ami.deprecation_time = None
    return ActionResult({"Return": True})


AmisResponse.register_image = register_image
AmisResponse.copy_image = copy_image
AmisResponse.enable_image_deprecation = enable_image_deprecation
AmisResponse.disable_image_deprecation = disable_image_deprecation


def describe_volume_status(self):
    """A volume is impaired when a test has tagged it so: `test:impaired`."""
    volumes = self.ec2_backend.describe_volumes(volume_ids=self._get_param("VolumeIds", []))
    return ActionResult(
        {
            "VolumeStatuses": [
                {
                    "VolumeId": v.id,
                    "AvailabilityZone": v.zone.name,
                    "VolumeStatus": {
                        "Status": "impaired" if any(t["key"] == "test:impaired" for t in v.get_tags()) else "ok",
                        "Details": [{"Name": "io-enabled", "Status": "passed"}],
                    },
                }
                for v in volumes
            ]
        }
    )


ElasticBlockStore.describe_volume_status = describe_volume_status

canned_console = General.get_console_output


def get_console_output(self):
    from base64 import b64encode

    folder = os.environ.get("INGOT_CONSOLES")
    if folder is None:
        return canned_console(self)
    instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
    output = b""
    for name in (os.path.join(instance.id, "console.log"), "console.log"):
        if os.path.exists(os.path.join(folder, name)):
            with open(os.path.join(folder, name), "rb") as file:
                # EC2 keeps the last 64 KiB.
                output = file.read()[-65536:]
            break
    return ActionResult({"InstanceId": instance.id, "Timestamp": datetime.now(timezone.utc), "Output": b64encode(output).decode()})


General.get_console_output = get_console_output

create_alias = KmsBackend.create_alias


def create_managed_alias(self, target_key_id, alias_name):
    if alias_name.startswith("alias/aws/"):
        self.keys[self.get_key_id(target_key_id)].key_manager = "AWS"
    return create_alias(self, target_key_id, alias_name)


KmsBackend.create_alias = create_managed_alias

assume_role = TokenResponse.assume_role


def assume_known_role(self):
    """A role that is not there may not be assumed, in AWS's words for it."""
    from moto.core.exceptions import AccessDeniedError
    from moto.iam.models import iam_backends

    arn = self._get_param("RoleArn")
    account, name = arn.split(":")[4], arn.split("/")[-1]
    roles = iam_backends[account][self.partition].roles.values()
    if not any(r.name == name for r in roles):
        who = f"arn:aws:iam::{self.current_account}:user/test"
        raise AccessDeniedError(user_arn=who, action=f"sts:AssumeRole on resource: {arn}")
    return assume_role(self)


TokenResponse.assume_role = assume_known_role

# --- What a role may do. Source: IAM User Guide, "Policy evaluation logic", "IAM JSON policy elements: Condition operators" ---------------

# Of the request that is being judged: its condition keys. Calls are answered one at a time.
context = {}
made_role = AssumedRole.__init__


def dated(self, *args, **kwargs):
    made_role(self, *args, **kwargs)
    self.ingot_issued = datetime.now(timezone.utc)


AssumedRole.__init__ = dated
judge = IAMRequestBase.check_action_permitted


def judge_in_context(self, resource):
    from moto.sts.models import sts_backends

    context.clear()
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(self._path).query, keep_blank_values=True)
    context.update({f"s3:{name}": values[0] for name, values in query.items() if name in ("prefix", "delimiter")})
    for account in sts_backends.values():
        for role in account["aws"].assumed_roles:
            if role.access_key_id == getattr(self._access_key, "_access_key_id", None):
                context["aws:TokenIssueTime"] = role.ingot_issued
    judge(self, resource)


IAMRequestBase.check_action_permitted = judge_in_context


def holds(operator, key, wanted):
    """One key of a condition; what the request does not have is like nothing."""
    has = context.get(key)
    if operator not in ("StringLike", "DateLessThan"):
        raise NotImplementedError(f"moto-amis.py knows no {operator}")
    if has is None:
        return False
    if operator == "DateLessThan":
        return has < datetime.fromisoformat(wanted.replace("Z", "+00:00"))
    patterns = [re.escape(w).replace(r"\*", ".*").replace(r"\?", ".") for w in ([wanted] if isinstance(wanted, str) else wanted)]
    return any(re.fullmatch(p, has, re.DOTALL) for p in patterns)


judge_statement = IAMPolicyStatement.is_action_permitted


def judge_statement_if(self, action, resource="*", principal=None, incoming_condition_values=None):
    condition = self._statement.get("Condition")
    # With a principal it is a role's trust that is asked for, whose conditions moto knows.
    if condition and principal is None:
        if not all(holds(operator, key, wanted) for operator, keys in condition.items() for key, wanted in keys.items()):
            return PermissionResult.NEUTRAL
        self = IAMPolicyStatement({k: v for k, v in self._statement.items() if k != "Condition"})
    return judge_statement(self, action, resource, principal, incoming_condition_values)


IAMPolicyStatement.is_action_permitted = judge_statement_if
authorise = ActionAuthenticatorMixin._authenticate_and_authorize_action


def authorise_roles(self, iam_request_cls, resource="*"):
    before = settings.INITIAL_NO_AUTH_ACTION_COUNT
    # Of other services moto knows no resources, and so nothing of what Ingot's policies allow.
    if os.environ.get("INGOT_ROLES") and iam_request_cls is S3IAMRequest and "X-Amz-Security-Token" in self.headers:
        settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
    try:
        authorise(self, iam_request_cls, resource)
    finally:
        settings.INITIAL_NO_AUTH_ACTION_COUNT = before


ActionAuthenticatorMixin._authenticate_and_authorize_action = authorise_roles

run_simple = moto.server.run_simple


def run_one_by_one(host, port, app, **more):
    one = threading.Lock()

    def answer(environ, start_response):
        with one:
            return app(environ, start_response)

    run_simple(host, port, answer, **more)


moto.server.run_simple = run_one_by_one

if __name__ == "__main__":
    moto.server.main()
