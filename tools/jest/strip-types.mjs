// Jest transformer: TypeScript in, JavaScript out, by Node's own type stripping.
//
// Invariants:
//   J1. Positions do not move: "strip" replaces types by blanks, so stack traces need no source map.
//   J2. What Jest runs is what Node runs: the same function strips the types for `node file.ts`.
//
// Plain JavaScript, because Jest loads it before any transformer exists.

import { createHash } from "node:crypto";
import { stripTypeScriptTypes } from "node:module";

export default {
  /** @param {string} source */
  process(source) {
    return { code: stripTypeScriptTypes(source, { mode: "strip" }) };
  },
  /** @param {string} source @param {string} path */
  getCacheKey(source, path) {
    return createHash("sha256")
      .update(process.version)
      .update("\0")
      .update(path)
      .update("\0")
      .update(source)
      .digest("hex");
  },
};
