/** A picture and a PDF that are large enough to be stored as attachments. */

/** A black picture of 64 by 64 pixels, padded with a comment. */
export const PNG = `data:image/png;base64,${paddedPng()}`;
export const PDF = `data:application/pdf;base64,${btoa(`%PDF-1.4\n%${"x".repeat(2000)}\n%%EOF\n`)}`;

function paddedPng(): string {
  const pixel =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";
  // What follows the last chunk is not looked at.
  return btoa(atob(pixel) + "\0".repeat(2000));
}
