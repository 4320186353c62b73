// A failure as Flink's Java client reads it: the Java serialization of org.apache.flink.util.SerializedThrowable. Flink's REST sends
// its failures this way, and its client shows nothing of a failure but what it finds in there.
//
// Grammar (Java Object Serialization Specification, section 6.4), strings in modified UTF-8:
//
//   stream    = magic u16 0xaced | version u16 5 | TC_OBJECT class(SerializedThrowable) data(Throwable) data(SerializedThrowable)
//   class     = TC_CLASSDESC name utf | serialVersionUID i64 | flags u8 | fieldCount u16 | field* | TC_ENDBLOCKDATA | class or TC_NULL
//   field     = typecode u8 | name utf | type as TC_STRING utf
//   data      = one value per field, TC_ENDBLOCKDATA behind those of Throwable (it has a writeObject method)
//
// Not here: reading it; nothing here reads Java's serialization.

const MAGIC = 0xaced;
const VERSION = 5;
const TC_NULL = 0x70;
const TC_CLASSDESC = 0x72;
const TC_OBJECT = 0x73;
const TC_STRING = 0x74;
const TC_ENDBLOCKDATA = 0x78;
const SC_SERIALIZABLE = 0x02;
const SC_WRITE_METHOD = 0x01;

/** A `utf` has 16 bits for its length. */
const UTF_BYTES_MAX = 0xffff;

const STRING = "Ljava/lang/String;";

interface JavaClass {
  readonly name: string;
  readonly serialVersionUid: bigint;
  readonly flags: number;
  readonly fields: readonly (readonly [name: string, type: string])[];
}

/** Subclass first. */
const CLASSES: readonly JavaClass[] = [
  {
    name: "org.apache.flink.util.SerializedThrowable",
    serialVersionUid: 7_284_183_123_441_947_635n,
    flags: SC_SERIALIZABLE,
    fields: [
      ["fullStringifiedStackTrace", STRING],
      ["originalErrorClassName", STRING],
      ["serializedException", "[B"],
    ],
  },
  { name: "java.lang.Exception", serialVersionUid: -3_387_516_993_124_229_948n, flags: SC_SERIALIZABLE, fields: [] },
  {
    name: "java.lang.Throwable",
    serialVersionUid: -3_042_686_055_658_047_285n,
    flags: SC_SERIALIZABLE | SC_WRITE_METHOD,
    fields: [
      ["cause", "Ljava/lang/Throwable;"],
      ["detailMessage", STRING],
      ["stackTrace", "[Ljava/lang/StackTraceElement;"],
      ["suppressedExceptions", "Ljava/util/List;"],
    ],
  },
];

export interface ThrowableText {
  /** What stands before the colon. */
  readonly className: string;
  readonly message: string;
  readonly stackTrace: string;
}

/** The bytes in base64, as REST carries them. */
export function serializedThrowable(throwable: ThrowableText): string {
  const bytes: number[] = [];
  u16(bytes, MAGIC);
  u16(bytes, VERSION);
  bytes.push(TC_OBJECT);
  for (const described of CLASSES) classDescription(bytes, described);
  bytes.push(TC_NULL);
  bytes.push(TC_NULL); // cause
  text(bytes, throwable.message);
  bytes.push(TC_NULL, TC_NULL, TC_ENDBLOCKDATA); // stackTrace, suppressedExceptions
  text(bytes, throwable.stackTrace);
  text(bytes, throwable.className);
  bytes.push(TC_NULL); // serializedException
  return Buffer.from(bytes).toString("base64");
}

function classDescription(bytes: number[], described: JavaClass): void {
  bytes.push(TC_CLASSDESC);
  utf(bytes, described.name);
  for (let shift = 56n; shift >= 0n; shift -= 8n) bytes.push(Number((described.serialVersionUid >> shift) & 0xffn));
  bytes.push(described.flags);
  u16(bytes, described.fields.length);
  for (const [name, type] of described.fields) {
    bytes.push(type.charCodeAt(0));
    utf(bytes, name);
    text(bytes, type);
  }
  bytes.push(TC_ENDBLOCKDATA);
}

function u16(bytes: number[], value: number): void {
  bytes.push((value >> 8) & 0xff, value & 0xff);
}

function text(bytes: number[], value: string): void {
  bytes.push(TC_STRING);
  utf(bytes, value);
}

/** Modified UTF-8: code units one by one, and two bytes for NUL; what is too long is cut. */
function utf(bytes: number[], value: string): void {
  const encoded: number[] = [];
  for (let i = 0; i < value.length && encoded.length <= UTF_BYTES_MAX - 3; i += 1) {
    const unit = value.charCodeAt(i);
    if (unit !== 0 && unit < 0x80) encoded.push(unit);
    else if (unit < 0x800) encoded.push(0xc0 | (unit >> 6), 0x80 | (unit & 0x3f));
    else encoded.push(0xe0 | (unit >> 12), 0x80 | ((unit >> 6) & 0x3f), 0x80 | (unit & 0x3f));
  }
  u16(bytes, encoded.length);
  for (const byte of encoded) bytes.push(byte);
}
