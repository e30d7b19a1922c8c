/** How the real hub and peers are asked: ranges, redirects, and a token that leaves this process only towards the hub itself. */
import type { Dispatcher } from 'undici'
import { nodeDnsName } from '../../src/api/trust.ts'
import type { Peer } from '../../src/api/peers.ts'
import { OpError } from '../../src/lib/errors.ts'
import type { FetchDoors, PeerDoors } from './doors.ts'
import { ask, makeDispatcher } from './http.ts'
import type { Identity } from './transfer/transfers.ts'

export interface HubOptions {
  /** As HF_ENDPOINT: scheme and host, perhaps a path. */
  readonly endpoint: string
  /** As HF_TOKEN. Never logged, never in an error. */
  readonly token?: string
}

export const DEFAULT_ENDPOINT = 'https://huggingface.co'
const MAX_REDIRECTS = 5
const CONNECT_MS_MAX = 15_000
const PEER_CONNECT_MS_MAX = 3_000

/** The endpoint without its last slash; OpError Invalid when it is no http(s) address. */
export function checkEndpoint(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '')
    throw new OpError(
      'Invalid',
      `HF_ENDPOINT must be an http or https address without a user, for example ${DEFAULT_ENDPOINT}`,
    )
  return text.replace(/\/+$/, '')
}

/** Of any address. The token goes to the endpoint's own origin alone. */
export function hubRequests({ endpoint, token }: HubOptions): FetchDoors['request'] {
  const home = new URL(endpoint).origin
  return (address, { from, ifRange }) => ({
    url: address,
    headers: {
      ...plainHeaders,
      ...rangeFrom(from),
      ...(ifRange === undefined || from === 0 ? {} : { 'if-range': ifRange }),
    },
    ...(new URL(address).origin === home && token !== undefined && token !== ''
      ? { authorization: `Bearer ${token}` }
      : {}),
    redirects: MAX_REDIRECTS,
    connectMsMax: CONNECT_MS_MAX,
  })
}

export interface PeerCredentials {
  readonly authorityPem: string
  readonly certificatePem: string
  readonly keyPem: string
}

/**
 * At peers' doors. They redirect nowhere, and no token ever goes there. With credentials (read anew for each request,
 * for they are renewed) both sides show who they are, and the peer must be the node that the server named.
 */
export function peerDoors(credentials?: () => PeerCredentials): PeerDoors {
  const plain = makeDispatcher(PEER_CONNECT_MS_MAX)
  const secured = new Map<string, { readonly identity: Identity; readonly dispatcher: Dispatcher }>()
  const dispatcherFor = ({ node }: Peer): Dispatcher => {
    if (credentials === undefined) return plain
    const identity = identityOf(node, credentials())
    const known = secured.get(node)
    if (known !== undefined && known.identity.cert === identity.cert) return known.dispatcher
    const dispatcher = makeDispatcher(PEER_CONNECT_MS_MAX, identity)
    secured.set(node, { identity, dispatcher })
    return dispatcher
  }
  const urlOf = ({ address, port }: Peer, path: string): URL => {
    const host = address.includes(':') ? `[${address}]` : address
    return new URL(`${credentials === undefined ? 'http' : 'https'}://${host}:${port}${path}`)
  }
  return {
    ask: async (peer, path, signal) => ask(dispatcherFor(peer), urlOf(peer, path), plainHeaders, signal),
    request: (peer, path, { from }) => ({
      url: urlOf(peer, path).href,
      headers: { ...plainHeaders, ...rangeFrom(from) },
      redirects: 0,
      connectMsMax: PEER_CONNECT_MS_MAX,
      ...(credentials === undefined ? {} : { identity: identityOf(peer.node, credentials()) }),
    }),
  }
}

const identityOf = (node: string, { authorityPem, certificatePem, keyPem }: PeerCredentials): Identity => ({
  ca: authorityPem,
  cert: certificatePem,
  key: keyPem,
  servername: nodeDnsName(node),
})

const plainHeaders = { 'accept-encoding': 'identity', 'user-agent': 'mctl' }
const rangeFrom = (from: number) => (from > 0 ? { range: `bytes=${from}-` } : {})
