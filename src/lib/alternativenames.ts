/** The alternative names of a certificate as Node prints them. Apart from x509.ts, whose library a client never needs. */

/** `DNS:a, URI:b` as pairs of type and name; none of our names holds a comma or a quote. */
export const alternativesOf = (text: string | undefined): [string, string][] =>
  (text ?? '').split(', ').flatMap((entry) => {
    const at = entry.indexOf(':')
    return at < 0 ? [] : [[entry.slice(0, at), entry.slice(at + 1)] as [string, string]]
  })
