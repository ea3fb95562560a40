/** Text as the service can store it. */

/**
 * The text without what neither PostgreSQL nor UTF-8 can hold. A `slice` that cuts an emoji leaves half of it at the end: it goes. Any
 * other lone surrogate, and U+0000, becomes U+FFFD, the sign for what cannot be shown.
 */
export const wellFormed = (text: string): string =>
  text.replace(/[\uD800-\uDBFF]$/, "").replace(/\p{Surrogate}|\0/gu, "\uFFFD");

/** The body of a request, every text in it well-formed. */
export const jsonOf = (body: unknown): string =>
  JSON.stringify(body, (_, value: unknown) => (typeof value === "string" ? wellFormed(value) : value));

/** The first characters of a text, for a title; never half of one. */
export const beginningOf = (text: string): string => [...text.trim().slice(0, 160)].slice(0, 80).join("");
