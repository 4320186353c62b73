// Writes docs/openapi.json from the descriptions of REST's routes and messages in packages/api.
//
// Run by `npm run generate`, and by `npm run check` into an empty folder (--into DIR).

import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";

import { openApiDocument } from "@sluice/api";
import prettier from "prettier";

const OUTPUT = "docs/openapi.json";

const { values } = parseArgs({ options: { into: { type: "string" } } });
const root = join(import.meta.dirname, "../..");
const target = join(values.into ?? root, OUTPUT);
mkdirSync(dirname(target), { recursive: true });
const options = await prettier.resolveConfig(join(root, OUTPUT));
writeFileSync(target, await prettier.format(JSON.stringify(openApiDocument()), { ...options, parser: "json" }));
