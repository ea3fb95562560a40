/** The errors of calls. */

/** A rule that a request broke, of a 422. */
export interface ValidationError {
  loc: (string | number)[];
  msg: string;
  type: string;
}

/** An error response of the service: its problem document (RFC 9457). */
export class ProblemError extends Error {
  override readonly name = "ProblemError";

  constructor(
    readonly status: number,
    readonly detail: string,
    readonly errors: ValidationError[] = [],
    readonly requestId: string | null = null,
  ) {
    super(detail);
  }
}

/** There was no response, or it broke off. It is not known whether a write arrived. */
export class NetworkError extends Error {
  override readonly name = "NetworkError";
}

/**
 * A write did not fit into the browser's storage when the page was closed. The message was saved without its
 * pictures and parts.
 */
export class StorageError extends Error {
  override readonly name = "StorageError";
}

export const isNotFound = (error: unknown): boolean => error instanceof ProblemError && error.status === 404;

/** Whether a response would exceed the limit of the service: ask for fewer messages. */
export const isTooLarge = (error: unknown): boolean =>
  error instanceof ProblemError && error.errors.some(({ type }) => type === "too_large");
