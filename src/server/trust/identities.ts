/**
 * From a certificate to who calls. The signature was checked by the handshake; here the name is looked up among what
 * the cluster holds now, so that deleting a Node or a User shuts its certificates out at once.
 */
import type { MctlObject } from '../../api/meta.ts'
import type { Node } from '../../api/node.ts'
import {
  GATEWAYS,
  GATEWAY_USER,
  NODES,
  NODE_USER_PREFIX,
  PEOPLE,
  RESET_ANNOTATION,
  UID_URI_PREFIX,
} from '../../api/trust.ts'
import type { User } from '../../api/trust.ts'
import type { Clock } from '../../lib/clock.ts'
import { OpError } from '../../lib/errors.ts'
import type { CertificateFacts } from '../../lib/x509.ts'
import type { IdentityOf } from '../../rpc/identity.ts'
import type { Identity } from '../../rpc/messages.ts'
import type { Store } from '../../store/store.ts'

/** The only call of somebody who has no certificate yet. */
const JOIN = 'Join'

/** `isTrusted` says whether an authority, by its common name, still counts: a connection may be older than its retirement. */
export function identityOfCertificates({ store, clock, isTrusted }: IdentityDoors): IdentityOf {
  return ({ certificate, rpc }) => {
    if (certificate === undefined) {
      if (rpc === JOIN) return { user: 'system:anonymous', anonymous: true }
      throw unauthorized('no client certificate of this cluster came with the call')
    }
    if (clock.nowMs() > certificate.notAfterMs)
      throw unauthorized(`the certificate of "${certificate.commonName}" expired ${timeOf(certificate.notAfterMs)}`)
    if (!isTrusted(certificate.issuer))
      throw unauthorized(
        `the certificate of "${certificate.commonName}" is of an authority that was retired (${certificate.issuer}). ${renewedBy(certificate)}`,
      )
    const { serial, issuer, notAfterMs } = certificate
    return { ...known(store, certificate), certificate: { serial, issuer, notAfterMs } }
  }
}

interface IdentityDoors {
  readonly store: Store
  readonly clock: Clock
  readonly isTrusted: (issuer: string) => boolean
}

/** Who was away for so long comes in as if for the first time. */
function renewedBy({ organization, commonName }: CertificateFacts): string {
  const name = commonName.slice(NODE_USER_PREFIX.length)
  return organization === NODES
    ? `On the server: mctl node reset ${name} && mctl join-token create --node ${name}; start its agent with the token`
    : `An admin lets you in again: mctl user delete ${commonName} && mctl user create ${commonName}`
}

function known(store: Store, certificate: CertificateFacts): Identity {
  const { commonName: user, organization } = certificate
  const snapshot = store.snapshot()
  switch (organization) {
    case NODES: {
      const node = user.slice(NODE_USER_PREFIX.length)
      checkHolder(certificate, snapshot.get('Node', '', node))
      return { user, node }
    }
    case GATEWAYS:
      return { user: GATEWAY_USER, role: 'gateway' }
    case PEOPLE: {
      const holder: User | undefined = snapshot.get('User', '', user)
      checkHolder(certificate, holder)
      return { user, role: holder?.spec.role ?? 'viewer' }
    }
    default:
      throw unauthorized(`a certificate of ${organization || 'nobody'} calls nothing here`)
  }
}

/** OpError Unauthorized when the object that the certificate was issued for is gone, another one, or was reset since. */
function checkHolder({ commonName, uris, notBeforeMs }: CertificateFacts, holder: MctlObject | undefined): void {
  if (holder === undefined || !uris.includes(`${UID_URI_PREFIX}${holder.metadata.uid}`))
    throw unauthorized(`the certificate of "${commonName}" was revoked: what it was issued for was deleted`)
  const resetMs = Date.parse((holder as Node).metadata.annotations?.[RESET_ANNOTATION] ?? '')
  if (notBeforeMs < resetMs)
    throw unauthorized(`the certificate of "${commonName}" was revoked by a reset at ${timeOf(resetMs)}`)
}

const timeOf = (ms: number) => new Date(ms).toISOString()

const unauthorized = (why: string): OpError => new OpError('Unauthorized', why)
