// The version that REST reports; equal to that of package.json (a test compares).

export const SLUICE_VERSION = "0.1.0";
