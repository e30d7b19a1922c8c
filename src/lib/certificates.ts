/** What it means that a server's certificate was refused: the codes of TLS in words, with what to do. */

const unknownAuthority = new Set([
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
])
const notNow = new Set(['CERT_HAS_EXPIRED', 'CERT_NOT_YET_VALID'])

/** Continues "its certificate …". undefined: the error, with all that caused it, is about something else. */
export function certificateProblem(error: unknown): string | undefined {
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    const { code = '' } = at as NodeJS.ErrnoException
    if (unknownAuthority.has(code))
      return (
        `its certificate is signed by an authority that is not trusted here (${code}). If it is your own, or your ` +
        "company's proxy: put its certificate (PEM) in a file, set NODE_EXTRA_CA_CERTS to the file's path for " +
        '`mctl server` and each `mctl agent`, and start them again'
      )
    if (notNow.has(code)) return `its certificate is not valid now (${code}): check the clock of this machine, too`
    if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return `its certificate is for another name (${code})`
  }
  return undefined
}
