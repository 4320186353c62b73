// The chart: what Helm makes of its values, what a real API server says of it, and the programs that its pods run.
//
// There are no nodes here: that the controller runs from it, e2e shows.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { parse, parseAllDocuments } from "yaml";

import { callApiServer, helm, kubernetes, minio, runToEnd, startApiServer, startMinio } from "../peers/index.ts";
import type { ApiServer, CommandOutcome, MinioServer } from "../peers/index.ts";
import { describeWithPeer } from "../peers/jest.ts";

const ROOT = join(import.meta.dirname, "../..");
const CHART = join(ROOT, "charts/sluice");
const NAMESPACE = "sluice-system";
const KUBE_VERSION = "1.34.0";
const TIMEOUT_MS = 180_000;

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly verbs: readonly string[];
}

interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly rules?: readonly Rule[];
  readonly spec?: { readonly template?: { readonly spec: object } };
}

function runHelm(args: readonly string[], server?: ApiServer): Promise<CommandOutcome> {
  const state = helm.find();
  if (!state.available) throw new Error(state.reason);
  // Nothing of this machine's Helm is used: no repositories, no plugins, no cluster but the one that is named.
  const env = {
    PATH: process.env["PATH"],
    HOME: home,
    ...(server === undefined ? {} : { KUBECONFIG: server.kubeconfig }),
  };
  return runToEnd({ command: state.program, args, env, outputCharsMax: 2 ** 20 });
}

let home = "";
beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), "sluice-chart-"));
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

function values(settings: object): string {
  const file = join(mkdtempSync(join(home, "values-")), "values.json");
  writeFileSync(file, JSON.stringify(settings));
  return file;
}

async function render(settings: object = {}): Promise<readonly Manifest[]> {
  const args = ["template", "sluice", CHART, "-n", NAMESPACE, "--kube-version", KUBE_VERSION, "-f", values(settings)];
  const { code, output } = await runHelm(args);
  expect({ code, output: code === 0 ? "" : output }).toEqual({ code: 0, output: "" });
  return parseAllDocuments(output)
    .map((document) => document.toJS() as Manifest | null)
    .filter((manifest) => manifest !== null);
}

const named = (manifests: readonly Manifest[], kind: string): readonly string[] =>
  manifests
    .filter((one) => one.kind === kind)
    .map(({ metadata: { name, namespace } }) => `${namespace ?? "-"}/${name}`);

/** Every variant whose templates take other ways. */
const VARIANTS: Readonly<Record<string, object>> = {
  defaults: {},
  "some namespaces": { controller: { watchNamespaces: ["team-a", "team-b"], watchNodes: false } },
  everything: {
    fullnameOverride: "streams",
    image: { repository: "registry:5000/sluice", digest: `sha256:${"0".repeat(64)}` },
    imagePullSecrets: [{ name: "pull" }],
    controller: {
      podLabels: { team: "a" },
      podAnnotations: { a: "b" },
      nodeSelector: { disk: "ssd" },
      tolerations: [{ key: "x", operator: "Exists" }],
      affinity: { podAntiAffinity: {} },
      priorityClassName: "system-cluster-critical",
      defaultJobImage: "registry:5000/jobs:1",
    },
    serviceAccount: { annotations: { a: "b" } },
    minio: { enabled: true, persistence: { enabled: true, storageClass: "fast" } },
  },
  "next to nothing": {
    controller: { replicas: 1, spread: false },
    crds: { install: false },
    rbac: { create: false },
    serviceAccount: { create: false, name: "mine" },
    minio: { enabled: true, accessKey: "access", secretKey: "secret-secret" },
  },
};

test("the chart has the repository's version", () => {
  const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { readonly version: string };
  expect(parse(readFileSync(join(CHART, "Chart.yaml"), "utf8"))).toMatchObject({ version, appVersion: version });
});

describeWithPeer(helm, "what Helm makes of the chart", () => {
  test("lint has nothing to say, with any values", async () => {
    for (const settings of Object.values(VARIANTS)) {
      const { code, output } = await runHelm(["lint", "--strict", "--quiet", CHART, "-f", values(settings)]);
      expect({ code, output: output.trim() }).toEqual({ code: 0, output: "" });
    }
  });

  test.each<readonly [string, object, RegExp]>([
    ["a misspelt name", { controler: {} }, /additional properties 'controler' not allowed/u],
    [
      "a misspelt name inside",
      { minio: { enable: true } },
      /at '\/minio': additional properties 'enable' not allowed/u,
    ],
    [
      "a text for a number",
      { controller: { replicas: "2" } },
      /at '\/controller\/replicas': got string, want integer/u,
    ],
    ["no controller", { controller: { replicas: 0 } }, /at '\/controller\/replicas': minimum: got 0, want 1/u],
    ["an unknown level", { controller: { logLevel: "trace" } }, /at '\/controller\/logLevel': value must be one of/u],
    ["half a digest", { image: { digest: "sha256:12" } }, /at '\/image\/digest': 'sha256:12' does not match pattern/u],
    [
      "a namespace that is none",
      { controller: { watchNamespaces: ["Team"] } },
      /watchNamespaces\/0': 'Team' does not match/u,
    ],
    [
      "a quantity that is none",
      { controller: { resources: { limits: { memory: "lots" } } } },
      /memory': 'lots' does not match/u,
    ],
  ])("values are refused: %s", async (_name, settings, message) => {
    const args = ["template", "sluice", CHART, "--kube-version", KUBE_VERSION, "-f", values(settings)];
    const { code, output } = await runHelm(args);
    expect(code).not.toBe(0);
    expect(output).toMatch(message);
  });

  test("every value of values.yaml is described, and every described one is there", () => {
    interface Description {
      readonly additionalProperties?: unknown;
      readonly properties?: Readonly<Record<string, Description>>;
    }
    const described = (schema: Description, at: string): readonly string[] =>
      Object.entries(schema.properties ?? {}).flatMap(([name, inner]) =>
        inner.properties === undefined ? [`${at}${name}`] : described(inner, `${at}${name}.`),
      );
    const schema = JSON.parse(readFileSync(join(CHART, "values.schema.json"), "utf8")) as Description;
    const defaults: unknown = parse(readFileSync(join(CHART, "values.yaml"), "utf8"));
    const absent = described(schema, "").filter((path) => {
      let value: unknown = defaults;
      for (const name of path.split(".")) value = (value as Readonly<Record<string, unknown>> | undefined)?.[name];
      return value === undefined;
    });
    // What Helm itself passes, and parts of Kubernetes' own shapes.
    const mayBeAbsent = /^global$|\.(?:limits|requests)\.(?:cpu|ephemeral-storage)$/u;
    expect(absent.filter((path) => !mayBeAbsent.test(path))).toEqual([]);
    expect(described(schema, "").length).toBeGreaterThan(30);
  });

  test("the CRD of the chart is that of crds/, with what Helm needs", async () => {
    const crd = parse(readFileSync(join(ROOT, "crds/streamjobs.sluice.dev.yaml"), "utf8")) as Manifest;
    const [rendered] = (await render()).filter(({ kind }) => kind === "CustomResourceDefinition");
    expect(rendered?.spec).toEqual(crd.spec);
    expect(rendered?.metadata.annotations).toEqual({ "helm.sh/resource-policy": "keep" });
    const [unkept] = (await render({ crds: { keep: false } })).filter(
      ({ kind }) => kind === "CustomResourceDefinition",
    );
    expect(unkept?.metadata.annotations).toBeUndefined();
  });

  test("rights: nothing by wildcard, no Secret is read but the controller's key", async () => {
    const rules = (await render()).flatMap(({ rules: all = [] }) => all);
    expect(rules.length).toBeGreaterThan(8);
    expect(rules.flatMap((rule) => [...rule.apiGroups, ...rule.resources, ...rule.verbs])).not.toContain("*");
    const ofSecrets = rules.filter((rule) => rule.resources.includes("secrets"));
    expect(
      ofSecrets.flatMap(({ verbs, resourceNames }) => verbs.map((verb) => [verb, resourceNames ?? "any"])),
    ).toEqual([
      ["create", "any"],
      ["delete", "any"],
      ["create", "any"],
      ["get", ["sluice-controller-key"]],
    ]);
  });

  test("the controller may see whether a job's namespace ends: deletion in it does not wait for answers", async () => {
    const seesNamespaces = (manifests: readonly Manifest[], kind: string): number =>
      manifests.filter(
        (one) =>
          one.kind === kind &&
          (one.rules ?? []).some(({ resources, verbs }) => resources.includes("namespaces") && verbs.includes("get")),
      ).length;
    expect(seesNamespaces(await render(), "ClusterRole")).toBe(1);
    expect(seesNamespaces(await render(VARIANTS["some namespaces"]), "Role")).toBe(2);
  });

  test("with namespaces named there are Roles in these, and no ClusterRole of the controller's", async () => {
    const manifests = await render(VARIANTS["some namespaces"]);
    expect(named(manifests, "Role")).toEqual([
      `${NAMESPACE}/sluice-controller`,
      "team-a/sluice-controller-jobs",
      "team-b/sluice-controller-jobs",
    ]);
    expect(named(manifests, "ClusterRoleBinding")).toEqual([]);
    expect(named(manifests, "ClusterRole").every((name) => /-(?:view|edit)$/u.test(name))).toBe(true);
    const nodes = await render({ controller: { watchNamespaces: ["team-a"] } });
    const [role] = nodes.filter(({ metadata }) => metadata.name === `${NAMESPACE}-sluice-controller`);
    expect(role?.rules).toEqual([{ apiGroups: [""], resources: ["nodes"], verbs: ["get", "list", "watch"] }]);
  });
});

describeWithPeer(helm, "the chart", () =>
  describeWithPeer(kubernetes, "in a real API server", () => {
    let server: ApiServer;
    beforeAll(async () => {
      server = await startApiServer();
      for (const name of [NAMESPACE, "team-a", "team-b"]) {
        const labels = { "pod-security.kubernetes.io/enforce": "restricted" };
        const body = { apiVersion: "v1", kind: "Namespace", metadata: { name, labels } };
        expect(await callApiServer(server, { method: "POST", path: "/api/v1/namespaces", body })).toMatchObject({
          status: 201,
        });
      }
    }, TIMEOUT_MS);
    afterAll(() => server.stop());

    const kubectl = (args: readonly string[], input = ""): Promise<CommandOutcome> =>
      runToEnd({ command: server.kubectl, args: ["--kubeconfig", server.kubeconfig, ...args], input });

    /** Hooks need a kubelet. */
    const install = (settings: object): Promise<CommandOutcome> =>
      runHelm(["upgrade", "--install", "sluice", CHART, "-n", NAMESPACE, "--no-hooks", "-f", values(settings)], server);

    test.each(Object.keys(VARIANTS))("accepts every object, strictly: %s", async (variant) => {
      const manifests = await render(VARIANTS[variant]);
      expect(manifests.length).toBeGreaterThan(3);
      const input = manifests.map((manifest) => JSON.stringify(manifest)).join("\n---\n");
      const { code, output } = await kubectl(["apply", "--dry-run=server", "--validate=strict", "-f", "-"], input);
      expect({ code, output: code === 0 ? "" : output }).toEqual({ code: 0, output: "" });
      expect(output).not.toMatch(/would violate PodSecurity/u);
    });

    test("admits every pod to a namespace that enforces the restricted standard", async () => {
      const manifests = await render(VARIANTS["everything"]);
      const templates = manifests.flatMap(({ metadata, spec }) =>
        spec?.template === undefined ? [] : [{ name: metadata.name, spec: spec.template.spec }],
      );
      expect(templates.map(({ name }) => name)).toEqual([
        "streams-controller",
        "streams-minio",
        "streams-minio-bucket",
      ]);
      for (const { name, spec } of templates) {
        const body = { apiVersion: "v1", kind: "Pod", metadata: { name }, spec: { ...spec, restartPolicy: "Always" } };
        const path = `/api/v1/namespaces/${NAMESPACE}/pods?dryRun=All`;
        const answer = await callApiServer(server, { method: "POST", path, body });
        expect([name, answer.status, (answer.body as { readonly message?: string }).message]).toEqual([
          name,
          201,
          undefined,
        ]);
      }
    });

    test(
      "is installed, upgraded and uninstalled: rights as they act, keys that stay, a CRD that is kept",
      async () => {
        const installed = await install({ minio: { enabled: true }, controller: { watchNamespaces: ["team-a"] } });
        expect(installed).toMatchObject({ code: 0 });
        expect(await kubectl(["get", "streamjobs", "-A"])).toMatchObject({ code: 0 });

        // The notes' example can be typed as it stands.
        const [, example = ""] = /<<'END'\n(.*?)\n {2}END\n/su.exec(installed.output) ?? [];
        const applied = await kubectl(["apply", "--dry-run=server", "-f", "-"], example.replaceAll(/^ {2}/gmu, ""));
        expect(applied.output).toMatch(/^streamjob.sluice.dev\/hello created \(server dry run\)\n$/u);

        const can = async (namespace: string, verb: string, what: string): Promise<boolean> => {
          const account = `system:serviceaccount:${NAMESPACE}:sluice-controller`;
          const [resource = "", subresource] = what.split(" ");
          const args = subresource === undefined ? [resource] : [resource, `--subresource=${subresource}`];
          const { output } = await kubectl(["auth", "can-i", verb, ...args, "-n", namespace, `--as=${account}`]);
          return /^yes$/mu.test(output);
        };
        const asked: readonly (readonly [string, string, string, boolean])[] = [
          ["team-a", "patch", "streamjobs.sluice.dev", true],
          ["team-a", "update", "streamjobs.sluice.dev status", true],
          ["team-a", "create", "pods", true],
          ["team-a", "delete", "secrets", true],
          ["team-a", "create", "events.events.k8s.io", true],
          ["team-a", "get", "secrets", false],
          ["team-a", "create", "pods exec", false],
          ["team-b", "list", "pods", false],
          [NAMESPACE, "update", "leases.coordination.k8s.io/sluice-controller", true],
          [NAMESPACE, "get", "secrets/sluice-controller-key", true],
          [NAMESPACE, "get", "secrets/sluice-minio", false],
          ["kube-system", "list", "streamjobs.sluice.dev", false],
          ["", "watch", "nodes", true],
        ];
        const found: (typeof asked)[number][] = [];
        for (const [namespace, verb, what] of asked)
          found.push([namespace, verb, what, await can(namespace, verb, what)]);
        expect(found).toEqual(asked);

        const keys = async (): Promise<string> =>
          (await kubectl(["-n", NAMESPACE, "get", "secret", "sluice-minio", "-o", "jsonpath={.data}"])).output;
        const before = await keys();
        expect(before).toMatch(/AWS_SECRET_ACCESS_KEY/u);
        const upgraded = await install({ minio: { enabled: true }, controller: { replicas: 3 } });
        expect(upgraded).toMatchObject({ code: 0 });
        expect(await keys()).toBe(before);
        expect(await can("kube-system", "list", "streamjobs.sluice.dev")).toBe(true);

        const uninstalled = await runHelm(["uninstall", "sluice", "-n", NAMESPACE, "--no-hooks"], server);
        expect(uninstalled).toMatchObject({ code: 0 });
        expect(uninstalled.output).toMatch(/kept due to the resource policy/u);
        expect(await kubectl(["get", "crd", "streamjobs.sluice.dev"])).toMatchObject({ code: 0 });
        expect((await kubectl(["-n", NAMESPACE, "get", "deployments"])).output).toMatch(/^No resources found/u);
        expect(await install({})).toMatchObject({ code: 0 }); // the kept CRD is still Helm's
      },
      TIMEOUT_MS,
    );

    describe("helm test", () => {
      let metrics: Server;
      beforeAll(async () => {
        metrics = createServer((_request, response) =>
          response.end("# TYPE workqueue_depth gauge\nworkqueue_depth 0\n"),
        );
        await new Promise<void>((resolve) => void metrics.listen(0, "127.0.0.1", resolve));
      });
      afterAll(() => void metrics.close());

      /** As the pod runs it, with the controller's own account. */
      async function check(): Promise<{ readonly code: number; readonly output: string }> {
        const account = mkdtempSync(join(home, "account-"));
        const token = await kubectl(["-n", NAMESPACE, "create", "token", "sluice-controller"]);
        expect(token).toMatchObject({ code: 0 });
        writeFileSync(join(account, "token"), token.output);
        writeFileSync(join(account, "ca.crt"), server.ca);
        const api = new URL(server.url);
        const pod = (await render()).find(({ metadata }) => metadata.annotations?.["helm.sh/hook"] === "test");
        const { containers } = (pod?.spec ?? {}) as {
          readonly containers: readonly [
            {
              readonly command: readonly string[];
              readonly args: readonly string[];
              readonly env: readonly { readonly name: string; readonly value: string }[];
            },
          ];
        };
        const [{ command, args, env }] = containers;
        const { port } = metrics.address() as AddressInfo;
        return runToEnd({
          command: process.execPath,
          args: [...command.slice(1), ...args],
          env: {
            ...Object.fromEntries(env.map(({ name, value }) => [name, value])),
            ACCOUNT_FOLDER: account,
            NODE_EXTRA_CA_CERTS: join(account, "ca.crt"),
            KUBERNETES_SERVICE_HOST: api.hostname,
            KUBERNETES_SERVICE_PORT: api.port,
            METRICS_URL: `http://127.0.0.1:${port}/metrics`,
            ATTEMPTS_MAX: "3", // the API server takes a moment to know new rights,
          },
        });
      }
      const lease = (renewedMs: number): Promise<CommandOutcome> => {
        const renewTime = new Date(renewedMs).toISOString().replace("Z", "000Z");
        const spec = { holderIdentity: "a", leaseDurationSeconds: 15, renewTime };
        const metadata = { name: "sluice-controller", namespace: NAMESPACE };
        const body = { apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata, spec };
        return kubectl(["apply", "-f", "-"], JSON.stringify(body));
      };

      test(
        "says what is missing, and that all is well",
        async () => {
          expect(await install({})).toMatchObject({ code: 0 });
          const nobody = await check();
          expect(nobody.code).toBe(1);
          expect(nobody.output).toMatch(/^ok {6}StreamJobs are served\nFAILED {2}a controller leads: .*404/u);

          await lease(Date.now() - 60_000);
          expect((await check()).output).toMatch(/FAILED {2}a controller leads: the Lease .* was renewed 6\d s ago\n/u);

          await lease(Date.now());
          expect(await check()).toEqual({
            code: 0,
            output:
              "ok      StreamJobs are served\nok      a controller leads\nok      a controller that is ready shows metrics\n",
          });
        },
        TIMEOUT_MS,
      );
    });
  }),
);

describeWithPeer(helm, "the trial object store", () =>
  describeWithPeer(minio, "MinIO", () => {
    let store: MinioServer;
    beforeAll(async () => {
      store = await startMinio();
    }, TIMEOUT_MS);
    afterAll(() => store.stop());

    test(
      "gets its bucket once it answers, and a second time nothing happens",
      async () => {
        const job = (await render({ minio: { enabled: true, bucket: "trial" } })).find(({ kind }) => kind === "Job");
        const { containers } = (job?.spec?.template?.spec ?? {}) as {
          readonly containers: readonly [{ readonly command: readonly string[]; readonly args: readonly string[] }];
        };
        const [{ command, args }] = containers;
        const env = {
          ENDPOINT: store.endpoint,
          BUCKET: "trial",
          AWS_ACCESS_KEY_ID: store.accessKey,
          AWS_SECRET_ACCESS_KEY: store.secretKey,
        };
        // In the image the working directory is where its libraries are.
        const run = (): Promise<CommandOutcome> =>
          runToEnd({ command: process.execPath, args: [...command.slice(1), ...args], cwd: ROOT, env });
        process.kill(store.pid, "SIGSTOP");
        const first = run();
        process.kill(store.pid, "SIGCONT");
        expect((await first).output).toMatch(/made bucket trial\n$/u);
        expect(await run()).toEqual({ code: 0, output: "bucket trial is there\n" });
      },
      TIMEOUT_MS,
    );
  }),
);
