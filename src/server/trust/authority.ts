/**
 * The cluster's own authority: made once, kept in the server's data directory, and the only thing that signs. Who owns
 * that folder owns the cluster. Files are 0600 in a folder of 0700; a certificate says which object it is for.
 */
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  GATEWAYS,
  GATEWAY_DOORS,
  GATEWAY_USER,
  NODES,
  NODE_USER_PREFIX,
  PEOPLE,
  SERVERS,
  SERVER_USER,
  UID_URI_PREFIX,
  nodeDnsName,
} from '../../api/trust.ts'
import type { Clock } from '../../lib/clock.ts'
import { replacePrivateFile } from '../../lib/replacefile.ts'
import type { Authority, Issue } from '../../lib/x509.ts'
import { issue, makeAuthority, makeKey, makeRequest } from '../../lib/x509.ts'
import { SERVER_NAME } from '../../rpc/tls.ts'

const DAY_MS = 86_400_000
const AUTHORITY_LIFE_MS = 3650 * DAY_MS
/** The server signs its own anew at every start, and the gateway's with it. */
const SERVER_LIFE_MS = 825 * DAY_MS
export const NODE_LIFE_MS = 90 * DAY_MS
/** Browsers and macOS believe no longer ones. */
const DOOR_LIFE_MS = 397 * DAY_MS
export const PERSON_LIFE_MS = 365 * DAY_MS
/** Clocks of the machines that check what the server's machine shows may be behind its own by so much. */
const SKEW_MS = 5 * 60_000

export interface OwnCertificate {
  readonly certificatePem: string
  readonly keyPem: string
}

export interface TrustAuthority {
  readonly certificatePem: string
  forServer(): Promise<OwnCertificate>
  forGateway(): Promise<OwnCertificate>
  /** What the gateway shows to programs: the names and addresses under which they reach it. It calls nobody with it. */
  forGatewayDoor(names: Pick<Issue, 'dnsNames' | 'ipAddresses'>): Promise<OwnCertificate>
  /** Certificate of a node's key: it calls as that node, and its shardhosts' doors show it. */
  forNode(node: string, uid: string, requestPem: string): Promise<string>
  forPerson(user: string, uid: string, requestPem: string): Promise<string>
}

/** Reads the authority of the folder, or makes it when `mayMake`; undefined: there is none. */
export async function openAuthority(
  dataDir: string,
  clusterUid: string,
  { clock, mayMake }: { readonly clock: Clock; readonly mayMake: boolean },
): Promise<TrustAuthority | undefined> {
  const folder = join(dataDir, 'trust')
  const found = read(join(folder, 'authority.pem'))
  if (found === undefined && !mayMake) return undefined
  const authority = found ?? (await make(folder, clusterUid, clock))
  return new Signer(authority, clock)
}

/** Key and certificate in one file, so that one rename puts both in place. */
function read(file: string): Authority | undefined {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  const at = text.indexOf('-----BEGIN CERTIFICATE-----')
  return { keyPem: text.slice(0, at), certificatePem: text.slice(at).trim() }
}

async function make(folder: string, clusterUid: string, clock: Clock): Promise<Authority> {
  const notBeforeMs = clock.nowMs() - SKEW_MS
  const authority = await makeAuthority(`mctl ${clusterUid}`, {
    notBeforeMs,
    notAfterMs: notBeforeMs + AUTHORITY_LIFE_MS,
  })
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const file = join(folder, 'authority.pem')
  replacePrivateFile(file, `${authority.keyPem}\n${authority.certificatePem}\n`)
  return authority
}

class Signer implements TrustAuthority {
  readonly certificatePem: string
  readonly #authority: Authority
  readonly #clock: Clock

  constructor(authority: Authority, clock: Clock) {
    this.#authority = authority
    this.#clock = clock
    this.certificatePem = authority.certificatePem
  }

  async forServer(): Promise<OwnCertificate> {
    return this.#own({ commonName: SERVER_USER, organization: SERVERS }, { dnsNames: [SERVER_NAME], usage: 'server' })
  }

  async forGateway(): Promise<OwnCertificate> {
    return this.#own({ commonName: GATEWAY_USER, organization: GATEWAYS }, { usage: 'client' })
  }

  async forGatewayDoor(names: Pick<Issue, 'dnsNames' | 'ipAddresses'>): Promise<OwnCertificate> {
    const subject = { commonName: 'mctl gateway', organization: GATEWAY_DOORS }
    return this.#own(subject, { ...names, usage: 'server' }, DOOR_LIFE_MS)
  }

  async forNode(node: string, uid: string, requestPem: string): Promise<string> {
    const commonName = `${NODE_USER_PREFIX}${node}`
    const names = { uris: [`${UID_URI_PREFIX}${uid}`], dnsNames: [nodeDnsName(node)] }
    const wanted = { requestPem, subject: { commonName, organization: NODES }, ...names, usage: 'both' as const }
    return this.#issue(wanted, NODE_LIFE_MS)
  }

  async forPerson(user: string, uid: string, requestPem: string): Promise<string> {
    const subject = { commonName: user, organization: PEOPLE }
    const uris = [`${UID_URI_PREFIX}${uid}`]
    return this.#issue({ requestPem, subject, uris, usage: 'client' }, PERSON_LIFE_MS)
  }

  async #own(
    subject: Issue['subject'],
    how: Pick<Issue, 'usage' | 'dnsNames' | 'ipAddresses'>,
    lifeMs = SERVER_LIFE_MS,
  ): Promise<OwnCertificate> {
    const keyPem = await makeKey()
    const requestPem = await makeRequest(keyPem, subject)
    return { keyPem, certificatePem: await this.#issue({ requestPem, subject, ...how }, lifeMs, SKEW_MS) }
  }

  #issue(wanted: Omit<Issue, 'notBeforeMs' | 'notAfterMs'>, lifeMs: number, skewMs = 0): Promise<string> {
    const notBeforeMs = this.#clock.nowMs() - skewMs
    return issue(this.#authority, { ...wanted, notBeforeMs, notAfterMs: notBeforeMs + lifeMs })
  }
}
