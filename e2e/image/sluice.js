#!/usr/local/bin/node
// `sluice` inside the image. The controller is a package of its own, which the command line does not depend on.

const packages = "/opt/sluice/node_modules/@sluice";
if (process.argv[2] === "controller") {
  process.argv.splice(2, 1);
  void import(`${packages}/controller/dist/main/main.js`);
} else {
  void import(`${packages}/cli/dist/main.js`);
}
