/** Where a gateway writes who and where it is, so that a restarted server finds and adopts its own. */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { reachable } from './identities.ts'

/** In the server's data folder. */
export const gatewayRecordFile = (dataDir: string): string => join(dataDir, 'gateway.json')

export interface GatewayRecord {
  readonly pid: number
  readonly startTime: string
  readonly address: string
  readonly clusterUid: string
  /** File of the certificate that it shows; absent: it speaks plain HTTP. */
  readonly tls?: string | undefined
}

export function writeGatewayRecord(file: string, record: GatewayRecord): void {
  writeFileSync(`${file}.new`, JSON.stringify(record), { mode: 0o600 })
  renameSync(`${file}.new`, file)
}

export function readGatewayRecord(file: string): GatewayRecord | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as GatewayRecord
  } catch {
    return undefined
  }
}

/** Where others reach it. */
export const gatewayUrlOf = ({ address, tls }: GatewayRecord): string =>
  `${tls === undefined ? 'http' : 'https'}://${reachable(address)}`

export const removeGatewayRecord = (file: string): void => rmSync(file, { force: true })
