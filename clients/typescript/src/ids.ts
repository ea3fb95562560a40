/** UUIDs without `crypto.randomUUID` and `crypto.subtle`, which a page over plain HTTP does not have. */

/** A new UUID of version 7. Its first 48 bits are the time, so new rows are neighbours in an index. */
export function uuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const view = new DataView(bytes.buffer);
  const now = Date.now();
  view.setUint16(0, Math.floor(now / 2 ** 32));
  view.setUint32(2, now >>> 0);
  return formatted(bytes, 7);
}

const NAMESPACE = "7d3f6c1e-52b8-5a0e-9a43-0c8f3c1b6a57";

/** The UUID (version 5) of an id of another system: always the same for the same name. */
export function uuidOf(name: string, namespace = NAMESPACE): string {
  const space = namespace
    .replaceAll("-", "")
    .match(/../g)!
    .map((byte) => parseInt(byte, 16));
  return formatted(sha1(new Uint8Array([...space, ...new TextEncoder().encode(name)])).subarray(0, 16), 5);
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

export const isUuid = (text: string): boolean => UUID.test(text);

function formatted(bytes: Uint8Array, version: number): string {
  bytes[6] = (bytes[6]! & 0x0f) | (version << 4);
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** SHA-1 (FIPS 180-4), which version 5 prescribes. No secret depends on it. */
function sha1(data: Uint8Array): Uint8Array {
  const padded = new DataView(new ArrayBuffer((((data.length + 8) >> 6) + 1) << 6));
  new Uint8Array(padded.buffer).set(data);
  padded.setUint8(data.length, 0x80);
  padded.setUint32(padded.byteLength - 4, data.length * 8);

  const hash = new Uint32Array([0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0]);
  const words = new Uint32Array(80);
  for (let block = 0; block < padded.byteLength; block += 64) {
    let [a, b, c, d, e] = hash as unknown as [number, number, number, number, number];
    for (let round = 0; round < 80; round++) {
      words[round] =
        round < 16
          ? padded.getUint32(block + 4 * round)
          : rotated(words[round - 3]! ^ words[round - 8]! ^ words[round - 14]! ^ words[round - 16]!, 1);
      const [mix, constant] =
        round < 20
          ? [(b & c) | (~b & d), 0x5a827999]
          : round < 40
            ? [b ^ c ^ d, 0x6ed9eba1]
            : round < 60
              ? [(b & c) | (b & d) | (c & d), 0x8f1bbcdc]
              : [b ^ c ^ d, 0xca62c1d6];
      [a, b, c, d, e] = [(rotated(a, 5) + mix + e + constant + words[round]!) >>> 0, a, rotated(b, 30), c, d];
    }
    for (const [index, word] of [a, b, c, d, e].entries()) hash[index]! += word;
  }
  const digest = new DataView(new ArrayBuffer(20));
  for (const [index, word] of hash.entries()) digest.setUint32(4 * index, word);
  return new Uint8Array(digest.buffer);
}

const rotated = (word: number, bits: number): number => ((word << bits) | (word >>> (32 - bits))) >>> 0;
