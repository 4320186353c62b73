// Public module of tools/pack: packages as folders of JavaScript, for whoever ships them otherwise than by npm.

export { compile, PUBLISHED, stagePackage } from "./stage.ts";
