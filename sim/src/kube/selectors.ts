// Label and field selectors, as far as the controller uses them.

import { ApiError } from "@sluice/controller/internal/kube";
import { isTree } from "./trees.ts";
import type { Tree } from "./trees.ts";

/** True when the object is selected; ApiError BadRequest for a selector that cannot be read. */
export function selects(object: Tree, labelSelector: string | undefined, fieldSelector: string | undefined): boolean {
  const metadata = object["metadata"];
  const labels = isTree(metadata) && isTree(metadata["labels"]) ? metadata["labels"] : {};
  return (
    requirements(labelSelector).every((one) => labelMatches(labels, one)) &&
    requirements(fieldSelector).every((one) => fieldMatches(object, one))
  );
}

/** The parts between commas that are not inside of parentheses. */
function requirements(selector: string | undefined): readonly string[] {
  if (selector === undefined || selector === "") return [];
  return selector.split(/,(?![^(]*\))/).map((one) => one.trim());
}

function labelMatches(labels: Tree, requirement: string): boolean {
  const set = /^([\w./-]+)\s+(in|notin)\s*\(([^)]*)\)$/.exec(requirement);
  if (set !== null) {
    const values = set[3]!.split(",").map((value) => value.trim());
    const isIn = values.some((value) => value === labels[set[1]!]);
    return set[2] === "in" ? isIn : !isIn;
  }
  const equal = /^([\w./-]+)\s*(==|=|!=)\s*([\w.-]*)$/.exec(requirement);
  if (equal !== null) {
    const [, name, operator, value] = equal;
    return operator === "!=" ? labels[name!] !== value : labels[name!] === value;
  }
  const exists = /^(!?)([\w./-]+)$/.exec(requirement);
  if (exists === null) throw badSelector(requirement);
  return Object.hasOwn(labels, exists[2]!) === (exists[1] === "");
}

function fieldMatches(object: Tree, requirement: string): boolean {
  const parts = /^([\w.]+)(==|=|!=)(.*)$/.exec(requirement);
  if (parts === null) throw badSelector(requirement);
  let value: unknown = object;
  for (const name of parts[1]!.split(".")) value = isTree(value) ? value[name] : undefined;
  const text = typeof value === "string" || typeof value === "number" ? String(value) : "";
  return parts[2] === "!=" ? text !== parts[3] : text === parts[3];
}

function badSelector(requirement: string): ApiError {
  const message = `unable to parse requirement: ${requirement}`;
  return new ApiError({ status: 400, reason: "BadRequest", message, outcome: "refused" });
}
