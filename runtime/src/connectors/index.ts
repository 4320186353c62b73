// Public module of runtime/connectors: sources and sinks.

export { GeneratorSource } from "./generator-source.ts";
export type { GeneratorOptions } from "./generator-source.ts";
export { CollectionSource, NumberSequenceSource } from "./collection-source.ts";
export { SocketTextSource } from "./socket-source.ts";
export type { SocketTextOptions } from "./socket-source.ts";
export { DiscardSink } from "./discard-sink.ts";
export { PrintSink } from "./print-sink.ts";
export { FileSource } from "./file-source.ts";
export type { CsvOptions, FileSourceOptions, Paths } from "./file-source.ts";
export { FileSink } from "./file-sink.ts";
export { retryingUploads } from "./retrying-uploads.ts";
export { Encoders } from "./encoders.ts";
export type { RecordEncoder } from "./encoders.ts";
export { parsePublishedName } from "./pending-files.ts";
export type { PublishedName } from "./pending-files.ts";
