/**
 * What signs: the cluster's own authorities, their keys beside the store and their phases in it. Agents and people get
 * certificates of the one that signs; the server and its gateway show those of the outgoing one until it is retired, so
 * that who was away during a change still knows them. A certificate says which object it is for.
 */
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
import { authorityPhase, shownOf, signingOf } from '../../api/authority.ts'
import type { Authority } from '../../api/authority.ts'
import { API_VERSION, timestamp } from '../../api/meta.ts'
import type { Clock, Random } from '../../lib/clock.ts'
import { OpError } from '../../lib/errors.ts'
import type { Issue } from '../../lib/x509.ts'
import { fingerprintOf, issue, makeKey, makeRequest, readCertificate } from '../../lib/x509.ts'
import { SERVER_NAME } from '../../rpc/tls.ts'
import { createObject, setStatus } from '../../store/objects.ts'
import type { Store, Tx } from '../../store/store.ts'
import type { KeptKey } from './keys.ts'
import { SKEW_MS, makeFirstKey, makeNextKey, readKeys, settleKeys } from './keys.ts'

const DAY_MS = 86_400_000
/** The server signs its own anew at every start, and the gateway's with it. */
const SERVER_LIFE_MS = 825 * DAY_MS
export const NODE_LIFE_MS = 90 * DAY_MS
/** Browsers and macOS believe no longer ones. */
const DOOR_LIFE_MS = 397 * DAY_MS
export const PERSON_LIFE_MS = 365 * DAY_MS

export interface OwnCertificate {
  /** With the authority that signed it after it. */
  readonly certificatePem: string
  readonly keyPem: string
}

export interface TrustAuthority {
  /** All that are trusted, the shown one first. */
  readonly bundlePem: string
  /** Of the one whose certificates the server and the gateway show. */
  readonly shownPem: string
  /** By fingerprint: all that are trusted, and the one that signs. */
  readonly told: { readonly authorities: readonly string[]; readonly signing: string }
  /** Calls whenever the authorities are others, or in other phases. */
  onChange(listener: () => void): void
  /** Name of the authority with this common name; undefined: it is none of ours, or was retired. */
  nameOf(subject: string): string | undefined
  /** A fresh key for the authority after these, in its file; nobody knows of it yet. */
  makeNextKey(): Promise<KeptKey>
  forServer(): Promise<OwnCertificate>
  forGateway(): Promise<OwnCertificate>
  /** What the gateway shows to programs: the names and addresses under which they reach it. It calls nobody with it. */
  forGatewayDoor(names: Pick<Issue, 'dnsNames' | 'ipAddresses'>): Promise<OwnCertificate>
  /** Certificate of a node's key: it calls as that node, and its shardhosts' doors show it. */
  forNode(node: string, uid: string, requestPem: string): Promise<string>
  forPerson(user: string, uid: string, requestPem: string): Promise<string>
}

export interface AuthorityDoors {
  readonly store: Store
  readonly dataDir: string
  readonly clock: Clock
  readonly random: Random
}

/** The cluster's authorities, or a first one when `mayMake`; undefined: there is none. */
export async function openAuthority(doors: AuthorityDoors, mayMake: boolean): Promise<Authorities | undefined> {
  const { store, dataDir, clock } = doors
  if (store.snapshot().list('Authority').length === 0) {
    const key = readKeys(dataDir)[0] ?? (mayMake ? await makeFirstKey(dataDir, store.clusterUid, clock) : undefined)
    if (key === undefined) return undefined
    await store.transact((tx) => recordAuthority(tx, key, 'Signing'))
  }
  return new Authorities(doors)
}

/** The object of a key that is in its file already. */
export function recordAuthority(tx: Tx, key: KeptKey, phase: 'Signing' | 'Introduced'): Authority {
  const { commonName: subject, notAfterMs } = readCertificate(key.certificatePem)
  const spec = { subject, fingerprint: fingerprintOf(key.certificatePem), expiresAt: timestamp(notAfterMs) }
  const manifest = { apiVersion: API_VERSION, kind: 'Authority', metadata: { name: key.name }, spec } as const
  const { object } = createObject(tx, manifest)
  return setStatus(tx, object, { phase, since: timestamp(tx.nowMs) })
}

type Held = Authority & { readonly key: KeptKey }

/** The authorities as the store and the key files say: looked at anew for each use, for both may change. */
export class Authorities implements TrustAuthority {
  readonly #doors: AuthorityDoors
  #held: readonly Held[]
  readonly #listeners: (() => void)[] = []

  constructor(doors: AuthorityDoors) {
    this.#doors = doors
    this.#held = this.#read(true)
  }

  /**
   * Brings the key files and what is signed with in line with the store. Of other authorities, or other phases, listeners are told.
   * `drops`: a key that belongs to none of them is not just being made known.
   */
  refresh(drops: boolean): void {
    const before = this.#held
    this.#held = this.#read(drops)
    const said = (held: readonly Held[]) => held.map((one) => `${one.metadata.name} ${authorityPhase(one)}`).join()
    if (said(before) !== said(this.#held)) for (const listener of this.#listeners) listener()
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener)
  }

  get bundlePem(): string {
    return [this.#shown, ...this.#held.filter((one) => one !== this.#shown)]
      .map(({ key }) => key.certificatePem.trim())
      .join('\n')
  }

  get shownPem(): string {
    return this.#shown.key.certificatePem
  }

  get told(): TrustAuthority['told'] {
    const authorities = this.#held.map(({ spec }) => spec.fingerprint).sort()
    return { authorities, signing: this.#signing.spec.fingerprint }
  }

  nameOf(subject: string): string | undefined {
    return this.#held.find(({ spec }) => spec.subject === subject)?.metadata.name
  }

  makeNextKey(): Promise<KeptKey> {
    const { dataDir, store, random, clock } = this.#doors
    return makeNextKey(dataDir, store.clusterUid, random.uuid().slice(0, 8), clock)
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
    return this.#issue(this.#signing, wanted, NODE_LIFE_MS)
  }

  async forPerson(user: string, uid: string, requestPem: string): Promise<string> {
    const subject = { commonName: user, organization: PEOPLE }
    const uris = [`${UID_URI_PREFIX}${uid}`]
    return this.#issue(this.#signing, { requestPem, subject, uris, usage: 'client' }, PERSON_LIFE_MS)
  }

  get #signing(): Held {
    return this.#found(signingOf(this.#held))
  }

  get #shown(): Held {
    return this.#found(shownOf(this.#held))
  }

  #found(authority: Authority | undefined): Held {
    const held = this.#held.find((one) => one === authority)
    if (held !== undefined) return held
    throw new OpError(
      'Invalid',
      `the key of the cluster's authority is not in ${this.#doors.dataDir}/trust: put it back from a backup (mctl server backup copies it)`,
    )
  }

  #read(drops: boolean): readonly Held[] {
    const objects = this.#doors.store.snapshot().list('Authority')
    const keys = settleKeys(
      this.#doors.dataDir,
      objects.map(({ metadata }) => metadata.name),
      drops,
    )
    return objects.flatMap((object) => {
      const key = keys.find(({ name }) => name === object.metadata.name)
      return key === undefined ? [] : [{ ...object, key }]
    })
  }

  async #own(
    subject: Issue['subject'],
    how: Pick<Issue, 'usage' | 'dnsNames' | 'ipAddresses'>,
    lifeMs = SERVER_LIFE_MS,
  ): Promise<OwnCertificate> {
    const shown = this.#shown
    const keyPem = await makeKey()
    const requestPem = await makeRequest(keyPem, subject)
    const own = await this.#issue(shown, { requestPem, subject, ...how }, lifeMs, SKEW_MS)
    return { keyPem, certificatePem: `${own.trim()}\n${shown.key.certificatePem.trim()}` }
  }

  #issue(by: Held, wanted: Omit<Issue, 'notBeforeMs' | 'notAfterMs'>, lifeMs: number, skewMs = 0): Promise<string> {
    const notBeforeMs = this.#doors.clock.nowMs() - skewMs
    return issue(by.key, { ...wanted, notBeforeMs, notAfterMs: notBeforeMs + lifeMs })
  }
}
