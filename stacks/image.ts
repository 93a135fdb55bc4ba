// AMIs as a stack of Terraform's, for who deploys by CDKTF: what bakes an image when its digest is another, and gives the AMI's id to stacks that
// launch hosts from it. `cdktf deploy image inloop` does both (aws/main.ts is the app); your own app takes it from "@ingot-host/ingot/constructs".
import { DataAwsAmi } from "@cdktf/provider-aws/lib/data-aws-ami/index.js";
import { AwsProvider } from "@cdktf/provider-aws/lib/provider/index.js";
import {
  DataResource,
  type ITerraformDependable,
  type TerraformMetaArguments,
  TerraformOutput,
  TerraformProvider,
  TerraformResource,
  TerraformStack,
} from "cdktf";
import { Construct } from "constructs";
import { shell } from "../lib/quote.ts";
import { named } from "./aws/network.ts";
import { id, names } from "./aws/shape.ts";

export interface BakedImageProps {
  /** Name of the recipe, images/<recipe>.yaml. */
  recipe: string;
  /** Where the AMI is made: that of the stack's AWS provider. */
  region: string;
  /** The image's digest: another makes another AMI, and the AMI is found by it. `ingot image plan <recipe> --json` says it. */
  digest: string;
  /** What makes the AMI. @default { by: "ingot" } */
  bake?: ByIngot | ByPacker;
}

/** `ingot bake <recipe> --on aws`, run by Terraform where Terraform runs: it needs what Ingot needs, and no provider. */
export interface ByIngot {
  by: "ingot";
  /** `direct`: this computer's disk, block by block; `packer`: a builder instance. @default "packer" */
  way?: "direct" | "packer";
  /** The program and its first arguments. @default ["npx", "--no-install", "ingot"] */
  program?: string[];
  /** The project's folder, seen from the stack's own, `cdktf.out/stacks/<stack>`. @default "../../.." */
  project?: string;
}

/**
 * `packer_image` of the provider toowoxx/packer. It always runs `packer init` first, so it needs a current Packer (1.7 or later, which it brings
 * itself) and a template in HCL2; Debian's 1.6 is of no use to it. Never run by Ingot's tests: a golden file holds what is written.
 */
export interface ByPacker {
  by: "packer_image";
  image: PackerImageProps;
}

/** Arguments of `packer_image`. Source: toowoxx/terraform-provider-packer, docs/resources/image.md. */
export interface PackerImageProps extends TerraformMetaArguments {
  /** Packer's file or folder, seen from `directory`. @default "." */
  file?: string;
  /** Where Packer runs. @default the folder in which Terraform runs */
  directory?: string;
  /** `-var <name>=<value>`. In the state: no secrets. */
  variables?: Record<string, string>;
  /** Of Packer's process. In the state: no secrets. */
  environment?: Record<string, string>;
  /** Keeps Terraform's own environment from Packer. @default false */
  ignoreEnvironment?: boolean;
  /** Further options of `packer build`, such as "-parallel-builds=1". */
  additionalParams?: string[];
  /** `-force`: an image of that name is overwritten. @default false */
  force?: boolean;
  /** What the provider's own data source finds it by. Packer is not told. */
  name?: string;
  /** Values that make it be built again when they change; the image's digest is put in. */
  triggers?: Record<string, string>;
}

export class PackerProvider extends TerraformProvider {
  constructor(scope: Construct, construct: string) {
    super(scope, construct, {
      terraformResourceType: "packer",
      terraformGeneratorMetadata: { providerName: "packer", providerVersionConstraint: "~> 0.14" },
      terraformProviderSource: "toowoxx/packer",
    });
  }

  protected override synthesizeAttributes(): Record<string, unknown> {
    return {};
  }
}

export class PackerImage extends TerraformResource {
  readonly #props: PackerImageProps;

  constructor(scope: Construct, construct: string, props: PackerImageProps) {
    super(scope, construct, { ...props, terraformResourceType: "packer_image", terraformGeneratorMetadata: { providerName: "packer" } });
    this.#props = props;
  }

  protected override synthesizeAttributes(): Record<string, unknown> {
    const { file, directory, variables, environment, ignoreEnvironment, additionalParams, force, name, triggers } = this.#props;
    return {
      file,
      directory,
      variables,
      environment,
      ignore_environment: ignoreEnvironment,
      additional_params: additionalParams,
      force,
      name,
      triggers,
    };
  }
}

/** One image's AMI. Terraform's destroy leaves it: hosts may stand on it, and `ingot image prune --on aws` knows which. */
export class BakedImage extends Construct {
  /** The AMI's id, known once it is baked. */
  readonly amiId: string;

  constructor(scope: Construct, construct: string, { recipe, region, digest, bake = { by: "ingot" } }: BakedImageProps) {
    super(scope, construct);
    const made = bake.by === "ingot" ? this.#byIngot(recipe, region, digest, bake) : this.#byPacker(recipe, digest, bake);
    const ami = named(
      new DataAwsAmi(this, "ami", {
        owners: ["self"],
        mostRecent: true,
        filter: [
          { name: `tag:${names.tags.image}`, values: [digest] },
          { name: "state", values: ["available"] },
        ],
        // Looked for only once it is there.
        dependsOn: [made],
      }),
      id(recipe),
    );
    this.amiId = ami.id;
    named(new TerraformOutput(this, "ami-id", { value: ami.id, description: `The AMI of ${recipe}` }), id(recipe, "ami"));
  }

  #byIngot(
    recipe: string,
    region: string,
    digest: string,
    { way = "packer", program = ["npx", "--no-install", "ingot"], project = "../../.." }: ByIngot,
  ) {
    const command = [...program, "bake", recipe, "--on", "aws", "--region", region, ...(way === "direct" ? ["--direct"] : [])]
      .map(shell)
      .join(" ");
    return named(
      new DataResource(this, "bake", {
        triggersReplace: { digest },
        // What was planned is what is baked, or nothing is.
        provisioners: [{ type: "local-exec", command: `${command} --locked --digest ${digest}`, workingDir: `\${path.root}/${project}` }],
      }),
      id(recipe),
    );
  }

  #byPacker(recipe: string, digest: string, { image }: ByPacker): ITerraformDependable {
    return named(new PackerImage(this, "bake", { ...image, triggers: { ...image.triggers, digest } }), id(recipe));
  }
}

export interface ImageStackProps {
  region: string;
  images: Omit<BakedImageProps, "region">[];
}

/** A Terraform stack with the AMIs of some recipes and nothing else. */
export class ImageStack extends TerraformStack {
  readonly #images: Map<string, BakedImage>;

  constructor(scope: Construct, construct: string, { region, images }: ImageStackProps) {
    super(scope, construct);
    new AwsProvider(this, "aws", { region });
    if (images.some(({ bake }) => bake?.by === "packer_image")) new PackerProvider(this, "packer");
    this.#images = new Map(images.map((image) => [image.recipe, new BakedImage(this, image.recipe, { ...image, region })]));
  }

  /** The AMI's id, for a host of this stack or of another: CDKTF deploys that one after this. @throws Error for a recipe that is not here */
  amiId(recipe: string): string {
    const image = this.#images.get(recipe);
    if (!image) throw new Error(`the stack has no image of ${recipe}: there are ${[...this.#images.keys()].join(", ")}`);
    return image.amiId;
  }
}
