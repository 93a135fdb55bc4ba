// A proxy before the emulator by which one call of many goes wrong, in the ways in which AWS and the network do.
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";

export type Fault =
  | "throttled"
  | "broken"
  | "denied"
  /** No answer ever comes. */
  | "silent"
  /** The call is done, and its answer gets lost. */
  | "lost";

/** What each must be said as. */
export const faultWords: Record<Fault, RegExp> = {
  // Where the answer has no body (HEAD), 503 is all that is said.
  throttled: /asks too much|AWS failed/,
  broken: /AWS failed/,
  denied: /may not|closed to these credentials/,
  silent: /cannot be reached/,
  lost: /cannot be reached/,
};

export interface Faulty {
  endpoint: string;
  /** Calls that came so far. */
  count(): number;
  /** Resolves when the call that goes wrong has come. */
  met: Promise<void>;
  stop(): void;
}

/** @param at which call goes wrong, from 1; 0: none. Later ones are answered. */
export async function faultyProxy(target: string, at: number, fault: Fault): Promise<Faulty> {
  let count = 0;
  let meet = () => {};
  const met = new Promise<void>((resolve) => (meet = resolve));
  const server = createServer((from, to) => {
    const wrong = ++count === at;
    const pass = (answer: (back: IncomingMessage) => void) => {
      const forward = request(new URL(from.url ?? "/", target), { method: from.method, headers: from.headers }, answer);
      forward.on("error", () => to.destroy());
      from.pipe(forward);
    };
    if (!wrong) {
      pass((back) => {
        to.writeHead(back.statusCode ?? 500, back.headers);
        back.pipe(to);
      });
      return;
    }
    if (fault === "lost")
      pass((back) => {
        back.resume();
        back.on("end", () => to.destroy());
      });
    else if (fault === "silent") from.resume();
    else {
      from.resume();
      from.on("end", () => say(from, to, fault));
    }
    meet();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = address && typeof address === "object" ? address.port : 0;
  return {
    endpoint: `http://127.0.0.1:${port}`,
    count: () => count,
    met,
    stop() {
      server.close();
      server.closeAllConnections();
    },
  };
}

export interface Recorder {
  endpoint: string;
  /** "DescribeImages", "PutParameter", …; S3's by method: "PUT". */
  calls: string[];
  stop(): void;
}

/** A proxy that writes down which calls are made. */
export async function recorder(target: string): Promise<Recorder> {
  const calls: string[] = [];
  const server = createServer((from, to) => {
    const chunks: Buffer[] = [];
    from.on("data", (chunk: Buffer) => chunks.push(chunk));
    from.on("end", () => {
      const body = Buffer.concat(chunks);
      const json = String(from.headers["x-amz-target"] ?? "").split(".")[1];
      const query = /(?:^|&)Action=(\w+)/.exec(body.toString("latin1"))?.[1];
      calls.push(json ?? query ?? from.method ?? "");
      const forward = request(new URL(from.url ?? "/", target), { method: from.method, headers: from.headers }, (back) => {
        to.writeHead(back.statusCode ?? 500, back.headers);
        back.pipe(to);
      });
      forward.on("error", () => to.destroy());
      forward.end(body);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = address && typeof address === "object" ? address.port : 0;
  return {
    endpoint: `http://127.0.0.1:${port}`,
    calls,
    stop() {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** Whether a call of recorder()'s only looks. */
export const looks = (call: string): boolean => /^(Describe|Get|List|Head|Assume|GET|HEAD)/.test(call);

/** In the words of each protocol: S3's XML, the query protocol's (EC2, STS), JSON's (SSM, Secrets Manager), and EBS's, which is JSON by REST. */
const codes = {
  throttled: {
    s3: ["SlowDown", 503],
    query: ["RequestLimitExceeded", 503],
    json: ["ThrottlingException", 400],
    ebs: ["RequestThrottledException", 400],
  },
  broken: {
    s3: ["InternalError", 500],
    query: ["InternalError", 500],
    json: ["InternalServerError", 500],
    ebs: ["InternalServerException", 500],
  },
  denied: {
    s3: ["AccessDenied", 403],
    query: ["UnauthorizedOperation", 403],
    json: ["AccessDeniedException", 400],
    ebs: ["AccessDeniedException", 403],
  },
} as const;

function say(from: IncomingMessage, to: ServerResponse, fault: keyof typeof codes): void {
  const type = String(from.headers["content-type"]);
  const ebs = /^\/snapshots(\/|\?|$)/.test(from.url ?? "");
  const protocol = ebs ? "ebs" : from.headers["x-amz-target"] ? "json" : type.includes("x-www-form-urlencoded") ? "query" : "s3";
  const [code, status] = codes[fault][protocol];
  const message =
    fault === "denied" ? "User: arn:aws:iam::123456789012:user/ops is not authorized to perform: some:Action on resource: it" : "no";
  const error = `<Error><Code>${code}</Code><Message>${message}</Message></Error>`;
  if (ebs) to.setHeader("x-amzn-errortype", code);
  to.writeHead(status, { "content-type": protocol === "json" ? "application/x-amz-json-1.1" : ebs ? "application/json" : "text/xml" });
  if (ebs) to.end(JSON.stringify({ Message: message }));
  else if (protocol === "json") to.end(JSON.stringify({ __type: code, message }));
  else if (protocol === "query") to.end(`<?xml version="1.0"?><Response><Errors>${error}</Errors><RequestID>r-1</RequestID></Response>`);
  else to.end(from.method === "HEAD" ? undefined : `<?xml version="1.0"?>${error}`);
}
