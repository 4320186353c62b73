// Credentials of MinIO that may do less than the root's: its AssumeRole with a policy of its own.

import { createHash, createHmac } from "node:crypto";

export interface RootAccess {
  readonly endpoint: string;
  readonly accessKey: string;
  readonly secretKey: string;
}

/** As environment variables. `actions`: what they may do, everywhere. */
export async function restrictedKey(
  { endpoint, accessKey, secretKey }: RootAccess,
  actions: readonly string[],
): Promise<Readonly<Record<string, string>>> {
  const statement = { Effect: "Allow", Action: actions, Resource: ["arn:aws:s3:::*"] };
  const body = new URLSearchParams({
    Action: "AssumeRole",
    Version: "2011-06-15",
    DurationSeconds: "3600",
    Policy: JSON.stringify({ Version: "2012-10-17", Statement: [statement] }),
  }).toString();
  const { host } = new URL(endpoint);
  const date = `${new Date().toISOString().replaceAll(/[-:]|\.\d+/gu, "")}`;
  const scope = `${date.slice(0, 8)}/us-east-1/sts/aws4_request`;
  const type = "application/x-www-form-urlencoded";
  const canonical = [
    "POST",
    "/",
    "",
    `content-type:${type}`,
    `host:${host}`,
    `x-amz-date:${date}`,
    "",
    "content-type;host;x-amz-date",
    sha256(body),
  ].join("\n");
  const key = scope.split("/").reduce<Buffer | string>((at, part) => hmac(at, part), `AWS4${secretKey}`);
  const signature = hmac(key, ["AWS4-HMAC-SHA256", date, scope, sha256(canonical)].join("\n")).toString("hex");
  const response = await fetch(endpoint, {
    method: "POST",
    body,
    headers: {
      "content-type": type,
      "x-amz-date": date,
      authorization: `AWS4-HMAC-SHA256 Credential=${accessKey}/${scope}, SignedHeaders=content-type;host;x-amz-date, Signature=${signature}`,
    },
  });
  const text = await response.text();
  const field = (name: string): string => {
    const value = new RegExp(`<${name}>([^<]+)</${name}>`, "u").exec(text)?.[1];
    if (value === undefined) throw new Error(`MinIO gave no ${name}: ${text}`);
    return value;
  };
  return {
    AWS_ACCESS_KEY_ID: field("AccessKeyId"),
    AWS_SECRET_ACCESS_KEY: field("SecretAccessKey"),
    AWS_SESSION_TOKEN: field("SessionToken"),
  };
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

function hmac(key: Buffer | string, text: string): Buffer {
  return createHmac("sha256", key).update(text).digest();
}
