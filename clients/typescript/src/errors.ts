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

/** No answer came, or it broke off. Whether a write arrived is not known. */
export class NetworkError extends Error {
  override readonly name = "NetworkError";
}
