/** Texts that the service can store. */

/**
 * The text without what PostgreSQL or UTF-8 cannot hold. Half an emoji at the end, which `slice` leaves, is
 * removed. Any other lone surrogate, and U+0000, becomes U+FFFD, the replacement character.
 */
export const wellFormed = (text: string): string =>
  text.replace(/[\uD800-\uDBFF]$/, "").replace(/\p{Surrogate}|\0/gu, "\uFFFD");

/** A body as JSON, with well-formed texts. */
export const jsonOf = (body: unknown): string =>
  JSON.stringify(body, (_, value: unknown) => (typeof value === "string" ? wellFormed(value) : value));

/** The first 80 characters of a text, for a title. */
export const beginningOf = (text: string): string => [...text.trim().slice(0, 160)].slice(0, 80).join("");
