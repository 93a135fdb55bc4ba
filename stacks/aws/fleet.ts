// Several machines of one stateless host: an Auto Scaling group over its zones, behind a network load balancer. That one passes TCP on as it
// is, so TLS ends on the host with the certificate that its stack declares, as it does everywhere else.
import { AutoscalingGroup } from "@cdktf/provider-aws/lib/autoscaling-group/index.js";
import { CloudwatchMetricAlarm } from "@cdktf/provider-aws/lib/cloudwatch-metric-alarm/index.js";
import { LaunchTemplate } from "@cdktf/provider-aws/lib/launch-template/index.js";
import { Lb } from "@cdktf/provider-aws/lib/lb/index.js";
import { LbListener } from "@cdktf/provider-aws/lib/lb-listener/index.js";
import { LbTargetGroup } from "@cdktf/provider-aws/lib/lb-target-group/index.js";
import { Route53Record } from "@cdktf/provider-aws/lib/route53-record/index.js";
import { TerraformOutput } from "cdktf";
import { Construct } from "constructs";
import { factsOf, type HostProps } from "./host.ts";
import { named } from "./network.ts";
import { roleOf } from "./role.ts";
import { id, names, recordId, tagsOf } from "./shape.ts";

export interface FleetProps extends Omit<HostProps, "subnet" | "volumes" | "snapshotRole"> {
  /** A subnet in each of the host's zones. */
  subnets: string[];
  vpcId: string;
  /** How many machines. */
  count: number;
  /** What says that a machine is well: a path of its site, and the port. */
  health: { path: string; port: number };
}

export class Fleet extends Construct {
  readonly group: AutoscalingGroup;

  constructor(scope: Construct, construct: string, props: FleetProps) {
    super(scope, construct);
    const { stack, host, count, health } = props;
    const name = id(host.host);
    const { profile, policy } = roleOf(this, props);
    const facts = factsOf(this, { ...props, volumes: new Map() });
    const tags = { ...tagsOf(stack, host), [names.tags.generation]: host.generation, [names.tags.image]: host.image.digest };
    const template = named(
      new LaunchTemplate(this, "template", {
        namePrefix: `${stack}-${host.host}-`,
        imageId: host.image.id,
        instanceType: host.type,
        keyName: props.keyName,
        iamInstanceProfile: { name: profile },
        userData: host.userData,
        updateDefaultVersion: true,
        ...(host.spot && { instanceMarketOptions: { marketType: "spot" } }),
        networkInterfaces: [
          {
            deviceIndex: 0,
            associatePublicIpAddress: String(host.address !== "private"),
            securityGroups: [props.group.id],
            deleteOnTermination: "true",
          },
        ],
        blockDeviceMappings: [
          {
            deviceName: host.image.rootDevice,
            ebs: { volumeType: "gp3", volumeSize: host.rootSize, encrypted: "true", deleteOnTermination: "true" },
          },
        ],
        metadataOptions: { httpEndpoint: "enabled", httpTokens: "required", httpPutResponseHopLimit: 1, instanceMetadataTags: "enabled" },
        tagSpecifications: ["instance", "volume"].map((resourceType) => ({
          resourceType,
          tags: resourceType === "instance" ? tags : tagsOf(stack, host),
        })),
      }),
      name,
    );
    const balancer = named(
      new Lb(this, "balancer", { namePrefix: "ingot-", loadBalancerType: "network", subnets: props.subnets, tags: tagsOf(stack, host) }),
      name,
    );
    const targets = host.ports
      .filter((p) => p.from === "world" && p.protocol === "tcp" && p.port !== 22)
      .map(({ port }) => {
        const group = named(
          new LbTargetGroup(this, `targets-${port}`, {
            // A target group's name has 32 characters at most, and `name_prefix` takes six of them.
            namePrefix: "ingot-",
            port,
            protocol: "TCP",
            vpcId: props.vpcId,
            deregistrationDelay: "60",
            tags: tagsOf(stack, host),
            healthCheck: {
              protocol: health.port === 443 ? "HTTPS" : "HTTP",
              port: String(health.port),
              path: health.path,
              matcher: "200-399",
              interval: 10,
            },
            lifecycle: { createBeforeDestroy: true },
          }),
          id(host.host, String(port)),
        );
        named(
          new LbListener(this, `listener-${port}`, {
            loadBalancerArn: balancer.arn,
            port,
            protocol: "TCP",
            defaultAction: [{ type: "forward", targetGroupArn: group.arn }],
          }),
          id(host.host, String(port)),
        );
        return { port, group };
      });
    const [asked] = targets.filter((t) => t.port === health.port);
    const unwell = asked && host.alarms && this.#unwell(props, balancer, asked.group);
    this.group = named(
      new AutoscalingGroup(this, "machines", {
        namePrefix: `${stack}-${host.host}-`,
        minSize: count,
        maxSize: count + 1,
        desiredCapacity: count,
        vpcZoneIdentifier: props.subnets,
        targetGroupArns: targets.map((t) => t.group.arn),
        launchTemplate: { id: template.id, version: template.latestVersion as unknown as string },
        healthCheckType: "ELB",
        healthCheckGracePeriod: 300,
        // Ingot waits for each machine's own report, which says more than that it is healthy.
        waitForCapacityTimeout: "0",
        instanceRefresh: {
          strategy: "Rolling",
          preferences: {
            minHealthyPercentage: 100,
            maxHealthyPercentage: 200,
            autoRollback: true,
            ...(unwell && { alarmSpecification: { alarms: [unwell.alarmName] } }),
          },
        },
        tag: Object.entries(tagsOf(stack, host)).map(([key, value]) => ({ key, value, propagateAtLaunch: true })),
        dependsOn: [policy, facts],
      }),
      name,
    );
    if (props.zoneId !== undefined)
      for (const record of host.dns?.names ?? [])
        named(
          new Route53Record(this, `record-${record}`, {
            zoneId: props.zoneId,
            name: record,
            type: "A",
            alias: { name: balancer.dnsName, zoneId: balancer.zoneId, evaluateTargetHealth: true },
          }),
          recordId(host.host, record),
        );
    named(new TerraformOutput(this, "address", { value: balancer.dnsName }), id(host.host, "address"));
  }

  /** The alarm that calls a refresh back: a machine that does not become well. */
  #unwell({ stack, host, alarmsTo }: FleetProps, balancer: Lb, group: LbTargetGroup): CloudwatchMetricAlarm {
    return named(
      new CloudwatchMetricAlarm(this, "alarm-unwell", {
        alarmName: `${stack}/${host.host} unwell`,
        namespace: "AWS/NetworkELB",
        metricName: "UnHealthyHostCount",
        dimensions: { LoadBalancer: balancer.arnSuffix, TargetGroup: group.arnSuffix },
        statistic: "Maximum",
        comparisonOperator: "GreaterThanThreshold",
        threshold: 0,
        period: 60,
        evaluationPeriods: 5,
        treatMissingData: "notBreaching",
        alarmActions: alarmsTo === undefined ? [] : [alarmsTo],
        tags: tagsOf(stack, host),
      }),
      id(host.host, "unwell"),
    );
  }
}
