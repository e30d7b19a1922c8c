/** What a context holds and for how long: a certificate that ends unnoticed shuts its holder out. */
import { X509Certificate } from 'node:crypto'
import { certificatesIn } from '../../lib/pem.ts'
import { AUTHORITY_WARNING_MS } from '../../planner/authority.ts'
import type { Context } from './file.ts'

const DAY_MS = 86_400_000
const CERTIFICATE_WARNING_MS = 30 * DAY_MS

/** What to say of a context whose certificate, or whose cluster's authority, ends soon; undefined: nothing. */
export function endingText({ name, certificate, authority }: Context, nowMs: number): string | undefined {
  const own = latestEndMs(certificate)
  if (own !== undefined && own - nowMs < CERTIFICATE_WARNING_MS)
    return own <= nowMs
      ? `warning: the certificate of context "${name}" ended ${day(own)}: an admin makes another one, \`mctl user delete\` and \`mctl user create\``
      : `warning: the certificate of context "${name}" ends ${day(own)}: mctl config renew`
  const last = latestEndMs(authority)
  return last !== undefined && last - nowMs < AUTHORITY_WARNING_MS
    ? `warning: the last authority that context "${name}" knows ends ${day(last)}: an admin runs \`mctl authority rotate\`, then you \`mctl config renew\``
    : undefined
}

/** Of several certificates in one text the one that lasts longest; undefined for what is no certificate. */
function latestEndMs(pem: unknown): number | undefined {
  if (typeof pem !== 'string') return undefined
  try {
    const ends = certificatesIn(pem).map((one) => Date.parse(new X509Certificate(one).validTo))
    return ends.length === 0 ? undefined : Math.max(...ends)
  } catch {
    return undefined
  }
}

const day = (ms: number): string => new Date(ms).toISOString().slice(0, 10)
