// What users may add to the pods of a job.
//
// Invariants:
//   PT1. A field that the operator owns is refused here, never overwritten without a word.
//
// Not here: merging (controller/src/objects).

import { flag, limited, list, map, object, opaque, ruled, text } from "../schema.ts";
import type { CelRule, Message, Schema } from "../schema.ts";
import { CONTAINER_NAME, OWN_LABEL_PREFIX, OWN_VOLUME_PREFIX } from "./names.ts";

const ENTRIES_MAX = 64;
/** Variables that the operator sets in its container. */
export const OWN_VARIABLES: readonly string[] = [
  "SLUICE_SECRET",
  "SLUICE_REST_TOKEN",
  "AWS_ACCESS_KEY_ID",
  "AWS_SECRET_ACCESS_KEY",
];
/** Labels that the operator sets besides those of its prefix. */
const OWN_LABELS: readonly string[] = ["app.kubernetes.io/name", "app.kubernetes.io/managed-by"];

function keeping<T>(schema: Schema<T>): Schema<T & Readonly<Record<string, unknown>>> {
  return limited(schema, { "x-kubernetes-preserve-unknown-fields": true }) as Schema<
    T & Readonly<Record<string, unknown>>
  >;
}

function celList(texts: readonly string[]): string {
  return `[${texts.map((one) => `'${one}'`).join(", ")}]`;
}

const labels = (description: string, ...rules: readonly CelRule[]): Schema<Readonly<Record<string, string>>> =>
  ruled(limited(map(limited(text(), { maxLength: 1024 }), description), { maxProperties: ENTRIES_MAX }), ...rules);

const named = limited(text("Name; unique in its list."), { minLength: 1, maxLength: 253 });

const Container = ruled(
  keeping(
    object(
      { name: limited(text(`\`${CONTAINER_NAME}\` is the operator's own.`), { minLength: 1, maxLength: 63 }) },
      {
        image: limited(text(), { maxLength: 512 }),
        command: limited(list(text()), { maxItems: 128 }),
        args: limited(list(text()), { maxItems: 128 }),
        resources: opaque<unknown>(),
        env: limited(list(keeping(object({ name: named }))), {
          maxItems: ENTRIES_MAX,
          "x-kubernetes-list-type": "map",
          "x-kubernetes-list-map-keys": ["name"],
        }),
      },
    ),
  ),
  {
    rule: `self.name != '${CONTAINER_NAME}' || !(has(self.command) || has(self.args) || has(self.image) || has(self.resources))`,
    message: `container ${CONTAINER_NAME} is the operator's: leave command, args, image and resources out; spec.image, spec.args and resources beside podTemplate set them`,
  },
  {
    rule: `self.name != '${CONTAINER_NAME}' || !has(self.env) || !self.env.exists(e, e.name in ${celList(OWN_VARIABLES)})`,
    message: `${OWN_VARIABLES.join(", ")} are set by the operator (the latter two out of objectStore.secretRef): leave them out`,
  },
);

const PodTemplateSpec = ruled(
  keeping(
    object(
      {},
      {
        restartPolicy: limited(text("The operator's."), { maxLength: 32 }),
        automountServiceAccountToken: flag("The operator's: always false."),
        containers: limited(
          list(
            Container,
            `Merged by name. \`${CONTAINER_NAME}\` adds to the operator's container; others run beside it.`,
          ),
          { maxItems: 16, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"] },
        ),
        volumes: limited(list(keeping(object({ name: named })), "Added to the operator's."), {
          maxItems: ENTRIES_MAX,
          "x-kubernetes-list-type": "map",
          "x-kubernetes-list-map-keys": ["name"],
        }),
      },
    ),
  ),
  {
    rule: "!has(self.restartPolicy) && !has(self.automountServiceAccountToken)",
    message:
      "restartPolicy and automountServiceAccountToken are the operator's: leave them out; a token can be mounted as a projected volume",
  },
  {
    rule: `!has(self.volumes) || !self.volumes.exists(v, v.name.startsWith('${OWN_VOLUME_PREFIX}'))`,
    message: `names of volumes that begin with ${OWN_VOLUME_PREFIX} are the operator's: choose another name`,
  },
);

/** `podTemplate` of one role; what Kubernetes' PodSpec has besides is kept as it is and checked when the pod is made. */
export const PodTemplate = object(
  {},
  {
    metadata: object(
      {},
      {
        labels: labels("Added to the operator's.", {
          rule: `!self.exists(k, k.startsWith('${OWN_LABEL_PREFIX}') || k in ${celList(OWN_LABELS)})`,
          message: `labels ${OWN_LABEL_PREFIX}*, ${OWN_LABELS.join(" and ")} are the operator's: choose other keys`,
        }),
        annotations: labels("Added to the operator's.", {
          rule: `!self.exists(k, k.startsWith('${OWN_LABEL_PREFIX}'))`,
          message: `annotations ${OWN_LABEL_PREFIX}* are the operator's: choose other keys`,
        }),
      },
    ),
    spec: PodTemplateSpec,
  },
);
export type PodTemplate = Message<typeof PodTemplate>;
