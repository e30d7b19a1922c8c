/** Version: who answers here, for which cluster, and where the gateway is. */
import { API_VERSION } from '../api/meta.ts'
import type { Handlers } from '../rpc/messages.ts'
import type { ServerDoors } from './handlers.ts'

export function versionCalls({ store, serverVersion, gatewayUrl }: ServerDoors): Pick<Handlers, 'version'> {
  return {
    version() {
      const { clusterUid, incarnation } = store
      const url = gatewayUrl()
      const gateway = url === undefined ? {} : { gatewayUrl: url }
      return Promise.resolve({ serverVersion, apiVersion: API_VERSION, clusterUid, incarnation, ...gateway })
    },
  }
}
