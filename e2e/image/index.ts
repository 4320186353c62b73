export { javascriptBase } from "./base.ts";
