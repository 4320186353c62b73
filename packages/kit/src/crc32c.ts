// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78): the checksum of every object, part and block of ours.
//
// Invariants:
//   C1. crc32c(a ++ b) == crc32c(b, crc32c(a)): a checksum can be taken piece by piece.
//   C2. The value is an unsigned 32-bit integer, the same as iSCSI, ext4, RocksDB (unmasked) and S3 compute.
//
// Slicing by 16 with one table of 16 x 256 words: node:zlib only knows the other polynomial.

const POLYNOMIAL = 0x82f63b78;
const SLICES = 16;

const TABLE = makeTable();

// Int32Array reads in the machine's order; the slices below assume the lowest address in the lowest bits.
const LITTLE_ENDIAN = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

function makeTable(): Int32Array {
  const table = new Int32Array(SLICES * 256);
  for (let byte = 0; byte < 256; byte += 1) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc & 1) === 0 ? crc >>> 1 : (crc >>> 1) ^ POLYNOMIAL;
    table[byte] = crc;
  }
  for (let i = 256; i < table.length; i += 1) {
    const previous = table[i - 256]!;
    table[i] = (previous >>> 8) ^ table[previous & 0xff]!;
  }
  return table;
}

/** CRC-32C of `bytes`; `seed` is the checksum of what came before (C1). */
export function crc32c(bytes: Uint8Array, seed = 0): number {
  let crc = ~seed;
  let at = 0;
  const end = bytes.length;
  if (end >= 64 && LITTLE_ENDIAN) {
    const lead = (4 - (bytes.byteOffset & 3)) & 3;
    crc = bytewise(crc, bytes, 0, lead);
    const words = new Int32Array(bytes.buffer, bytes.byteOffset + lead, ((end - lead) >>> 4) << 2);
    crc = wordwise(crc, words);
    at = lead + words.length * 4;
  }
  return ~bytewise(crc, bytes, at, end) >>> 0;
}

function bytewise(start: number, bytes: Uint8Array, from: number, to: number): number {
  const table = TABLE;
  let crc = start;
  for (let i = from; i < to; i += 1) crc = (crc >>> 8) ^ table[(crc ^ bytes[i]!) & 0xff]!;
  return crc;
}

function wordwise(start: number, words: Int32Array): number {
  const t = TABLE;
  let crc = start;
  for (let i = 0; i < words.length; i += 4) {
    const a = words[i]! ^ crc;
    const b = words[i + 1]!;
    const c = words[i + 2]!;
    const d = words[i + 3]!;
    crc =
      t[3840 + (a & 0xff)]! ^
      t[3584 + ((a >>> 8) & 0xff)]! ^
      t[3328 + ((a >>> 16) & 0xff)]! ^
      t[3072 + (a >>> 24)]! ^
      t[2816 + (b & 0xff)]! ^
      t[2560 + ((b >>> 8) & 0xff)]! ^
      t[2304 + ((b >>> 16) & 0xff)]! ^
      t[2048 + (b >>> 24)]! ^
      t[1792 + (c & 0xff)]! ^
      t[1536 + ((c >>> 8) & 0xff)]! ^
      t[1280 + ((c >>> 16) & 0xff)]! ^
      t[1024 + (c >>> 24)]! ^
      t[768 + (d & 0xff)]! ^
      t[512 + ((d >>> 8) & 0xff)]! ^
      t[256 + ((d >>> 16) & 0xff)]! ^
      t[d >>> 24]!;
  }
  return crc;
}
