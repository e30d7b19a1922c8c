/** Texts of certificates, without the library that reads them: a command line that only looks must start quickly. */

/** Each certificate of a text that may hold several. */
export const certificatesIn = (pem: string): readonly string[] =>
  pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
