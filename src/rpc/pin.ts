/**
 * First contact with a server that nothing is known of but hashes of its authorities: looks at the certificates that it
 * shows, believes none, and answers the one that has such a hash. Who then connects with it as the only authority finds
 * out whether the server holds a certificate of it; a stranger in between can show the authority, not such a key.
 */
import { connect } from 'node:tls'
import type { DetailedPeerCertificate } from 'node:tls'
import { OpError } from '../lib/errors.ts'
import { splitHostPort } from '../lib/hostport.ts'
import { fingerprintOf, pemOf } from '../lib/x509.ts'
import { SERVER_NAME } from './tls.ts'

const TIMEOUT_MS = 10_000
const MAX_CHAIN = 5

export interface FirstContact {
  readonly authorityPem: string
  /** Of this machine on the way to the server: what others of that network reach it by. */
  readonly localAddress: string
}

/**
 * `address` is `host:port`. OpError Unavailable when nobody answers in TLS, Forbidden when the server shows none of the
 * authorities; `stranger` says what that means for who asks.
 */
export async function firstContact(
  address: string,
  authorityHashes: readonly string[],
  stranger = strangerToToken,
): Promise<FirstContact> {
  const { chain, localAddress } = await shown(address)
  const authority = chain.find((der) => authorityHashes.includes(fingerprintOf(der)))
  if (authority !== undefined) return { authorityPem: pemOf(authority), localAddress }
  throw new OpError('Forbidden', stranger(address))
}

const strangerToToken = (address: string): string =>
  `the server at ${address} is not of the cluster that made this join token, its authority was changed since, or somebody is in between: no certificate that it shows has the hash in the token. Check the address; make a new token with \`mctl join-token create\` on the right server`

function shown(address: string): Promise<{ chain: readonly Buffer[]; localAddress: string }> {
  const { host, port } = splitHostPort(address)
  return new Promise((resolve, reject) => {
    // Nothing is sent on this connection: it is for looking only.
    const socket = connect({
      host,
      port,
      servername: SERVER_NAME,
      ALPNProtocols: ['h2'],
      rejectUnauthorized: false,
    })
    const fail = (why: string, cause?: Error) => {
      socket.destroy()
      reject(new OpError('Unavailable', `Unable to connect to the server: ${address}: ${why}`, { cause }))
    }
    socket.setTimeout(TIMEOUT_MS, () => fail(`no TLS within ${TIMEOUT_MS / 1000} s`))
    socket.once('error', (error) => fail('no TLS connection', error))
    socket.once('secureConnect', () => {
      const chain = chainOf(socket.getPeerCertificate(true))
      const { localAddress = '' } = socket
      socket.destroy()
      resolve({ chain, localAddress })
    })
  })
}

function chainOf(leaf: DetailedPeerCertificate): readonly Buffer[] {
  const chain: Buffer[] = []
  // The last of a chain names itself as its issuer.
  for (let at = leaf; at?.raw !== undefined && chain.length < MAX_CHAIN; at = at.issuerCertificate) {
    if (chain.some((der) => der.equals(at.raw))) break
    chain.push(at.raw)
  }
  return chain
}
