/** What a call may be refused with. */

/** One broken rule of a request that was refused with 422. */
export interface ValidationError {
  loc: (string | number)[];
  msg: string;
  type: string;
}

/** The service refused: its problem document (RFC 9457). */
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

/** No response came, or it broke off. Whether a write arrived is not known. */
export class NetworkError extends Error {
  override readonly name = "NetworkError";
}

/** A write did not fit into the browser's storage when its page went. The message is there without its pictures and parts. */
export class StorageError extends Error {
  override readonly name = "StorageError";
}

export const isNotFound = (error: unknown): boolean => error instanceof ProblemError && error.status === 404;
